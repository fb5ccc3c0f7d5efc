"""A target loss (budget=speedrun): training ends at the first validation at or below it; how long that took is kept.

Seconds are those of the training clock, which stands still during validation. Between two validations nobody knows, so
the time to the target is that of the validation that found it: at most `check_steps` steps too long, never too short.
All ranks see the same loss and stop at the same step.
"""

from __future__ import annotations

from typing import Any

GPT2_TARGET, GPT2_TOKENS = 3.28, 50_000


def begin_target(session: Any) -> None:
    """Say what ends the run, and start the record of it (a resumed run goes on with its own)."""
    target = session.config["budget"].get("target_loss", 0.0)
    if not target:
        return
    every = session.config["trainer"]["val_check_steps"]
    session.statistics.setdefault("target", {"loss": target, "check_steps": every, "reached": False, "checks": 0})
    session.say(f"until validation loss {target:g}, looked at every {every} steps with the clock standing still")
    size = session.config["model"]["vocab_size"]
    if target == GPT2_TARGET and size < GPT2_TOKENS:
        session.say(
            f"note: {target} nats per token is the NanoGPT Speedrun's target for GPT-2's 50,257 tokens; here a token "
            f"is one of {size:,}: type budget.target_loss=<nats per token>, or tokenizer=gpt2"
        )


def check_target(session: Any) -> bool:
    """After a validation: whether the target is reached."""
    found, loss = session.statistics.get("target"), session.validation.get("val/loss")
    if found is None or loss is None:
        return False
    found["checks"] += 1
    found["validated_targets"] = session.statistics.get("validated_targets")
    if found.get("best_loss") is None or loss < found["best_loss"]:
        found.update(best_loss=loss, best_step=session.step)
    if loss <= found["loss"] and not found["reached"]:
        seconds, tokens = session.clock.read(), session.step * session.stream.tokens_per_step
        found.update(reached=True, reached_loss=loss, step=session.step, seconds=seconds, tokens=tokens)
    return bool(found["reached"])


def conclude_target(session: Any) -> None:
    """Say how it ended."""
    found = session.statistics.get("target")
    if found is None or session.clock.interrupted:
        return
    if found["reached"]:
        session.say(
            f"target reached: validation loss {found['reached_loss']:.4f} <= {found['loss']:g} after "
            f"{found['step']:,} steps, {found['tokens']:,} tokens, {found['seconds']:.1f} s "
            f"(looked at every {found['check_steps']} steps)"
        )
        return
    best = f"best validation loss {found['best_loss']:.4f}" if found["checks"] else "no validation came to it"
    session.say(f"target not reached: {best}, wanted {found['loss']:g}, when the budget ended at step {session.step:,}")
