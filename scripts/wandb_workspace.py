"""Create the W&B dashboard of golf runs: ladder, size, throughput, quantisation and seeds panels.

    python scripts/wandb_workspace.py --entity <you> --project golf
    python scripts/wandb_workspace.py --entity <you> --project golf --print

The panels name what golf/training/wandb_record.py and the training loop log. `--print` builds the specification and
shows it without a network and without an account; creating it needs both (wandb login) and the package
wandb-workspaces (pip install "golf[wandb]").
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golf.errors import GolfError, UserError
from golf.training.login import wandb_login

NAME = "golf"
CLASSES = (
    *("embedding", "head", "attention_q", "attention_k", "attention_v", "attention_o", "mlp_in", "mlp_out"),
    *("tables", "gates", "scalars", "other", "metadata", "code"),
)
RUNGS = ("raw", "averaged", "quantised", "sliding", "ttt")
ENTRY = "entry"  # of the W&B configuration: what the seeds of a configuration share


def workspace(entity: str, project: str, export: str = "default") -> Any:
    """The dashboard's specification.

    Raises:
        UserError: the package wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError as error:
        raise UserError('the dashboard needs the package wandb-workspaces: type pip install "golf[wandb]"') from error

    def section(name: str, *panels: Any) -> Any:
        layout = ws.SectionLayoutSettings(columns=3, rows=2)
        return ws.Section(name=name, panels=list(panels), is_open=True, layout_settings=layout)

    def bars(title: str, *metrics: str, **options: Any) -> Any:
        return wr.BarPlot(title=title, metrics=list(metrics), max_runs_to_show=20, **options)

    def line(title: str, *metrics: str, **options: Any) -> Any:
        return wr.LinePlot(title=title, x="step", y=list(metrics), title_x="training step", **options)

    by_entry: dict[str, Any] = {"groupby": wr.Config(ENTRY), "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    bpb, size = wr.SummaryMetric("bpb"), wr.SummaryMetric("size/total_bytes")
    sections = [
        section(
            "Ladder",
            bars("BPB by rung", *(f"ladder/{rung}/bpb" for rung in RUNGS)),
            wr.ScatterPlot(title="Bytes and BPB", x=size, y=bpb, running_ymin=True),
            line("Validation BPB", "val/bpb"),
            line("Loss", "train/loss", "val/loss"),
            wr.WeavePanelSummaryTable(table_name="ladder/table"),
            bars("Rules that failed", "rules_failed"),
        ),
        section(
            "Size",
            bars("Bytes as shipped", "size/total_bytes", title_x="of 16,000,000"),
            bars("Artifact and code", "size/artifact_bytes", "size/code_bytes"),
            bars("Bytes by class", *(f"size/{kind}" for kind in CLASSES)),
            line("Forecast during training", "size/artifact_bytes"),
            wr.WeavePanelSummaryTable(table_name="size/by_class"),
        ),
        section(
            "Throughput",
            line("Tokens per second", "tokens_per_second"),
            line("Step time, ms", "step_ms", ignore_outliers=True),
            line("Training clock, seconds", "seconds"),
            bars("p50 and p99 of the step time", "throughput/step_ms_p50", "throughput/step_ms_p99"),
            bars("Model FLOPs utilisation", "throughput/mfu"),
        ),
        section(
            "Quantisation",
            bars("Before and after", "ladder/averaged/bpb", "ladder/quantised/bpb"),
            wr.WeavePanelSummaryTable(table_name=f"sensitivity/{export}"),
        ),
        section(
            "Seeds",
            bars("BPB, mean of an entry's seeds", "bpb", **by_entry),
            bars(
                "Bytes, largest of an entry's seeds",
                "size/total_bytes",
                groupby=wr.Config(ENTRY),
                groupby_aggfunc="max",
            ),
            line("Validation BPB, mean and deviation", "val/bpb", aggregate=True, **by_entry),
        ),
    ]
    settings = ws.WorkspaceSettings(x_axis="step", max_runs=50)
    columns = [f"summary:{name}" for name in ("bpb", "size/total_bytes", "throughput/step_ms_p50")]
    runs = ws.RunsetSettings(pinned_columns=["run:displayName", *columns, "config:seed"])
    return ws.Workspace(
        entity=entity, project=project, name=NAME, sections=sections, settings=settings, runset_settings=runs
    )


def specification(made: Any) -> dict[str, Any]:
    """What would be sent, as plain data."""
    return made._to_model().model_dump(by_alias=True, exclude_none=True, mode="json")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("wandb_workspace.py", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--entity", required=True, help="your W&B user or team")
    parser.add_argument("--project", default="golf", help="as logger.wandb.project (golf)")
    parser.add_argument("--export", default="default", help="whose table of sensitivities is shown (default)")
    parser.add_argument("--print", action="store_true", help="show the specification; no network, no account")
    arguments = parser.parse_args(argv)
    made = workspace(arguments.entity, arguments.project, arguments.export)
    if arguments.print:
        print(json.dumps(specification(made), indent=1))
        return 0
    if wandb_login() is None:
        raise UserError("no W&B login was found: type wandb login, or add --print to see the dashboard without one")
    try:
        made.save()
    except Exception as error:  # of the service, whose errors are of many classes
        raise UserError(f"W&B refuses the dashboard ({' '.join(str(error).split())[:200]}): check --entity") from error
    print(made.url)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except GolfError as error:
        print(f"wandb_workspace.py: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
