#!/bin/sh
# Prints the Python that golf's environment is made from: $PYTHON if set, else python3, else the newest of 3.13 … 3.11.
# It must be 3.11, 3.12 or 3.13 and able to make virtual environments; otherwise one line says what is missing.
test_python='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c "$test_python" >/dev/null 2>&1; then
        echo "$candidate"
        exit 0
    fi
done
if [ -n "$PYTHON" ]; then
    echo "golf: PYTHON=$PYTHON is not Python 3.11, 3.12 or 3.13 with venv and pip; type make install PYTHON=python3.12" >&2
else
    echo "golf: no Python 3.11, 3.12 or 3.13 with venv and pip found (on Debian: apt-get install python3 python3-venv); type make install PYTHON=<path of one>" >&2
fi
exit 2
