"""The reference of the command line, generated from the commands."""

from __future__ import annotations

from typing import Any, get_type_hints


def reference() -> str:
    """Markdown: a section for each verb, with its usage and a table of its options."""
    from typer.main import get_command

    from convscope._cli import app

    verbs = get_command(app).commands  # type: ignore[attr-defined]
    return "\n".join(_verb(name, verb) for name, verb in verbs.items())


def _verb(name: str, verb: Any) -> str:
    arguments = [p for p in verb.params if p.param_type_name == "argument"]
    options = [p for p in verb.params if p.param_type_name == "option"]
    words = " ".join([name, *(_placeholder(a) for a in arguments), "[OPTIONS]"])
    rows = [f"| `{_placeholder(a)}` | {_cell(a.help)} |" for a in arguments]
    rows += [_option(verb, o) for o in options]
    head = f"## {name}\n\n{verb.help}\n\n```text\nconvscope {words}\n```\n\n| | |\n|---|---|\n"
    return head + "\n".join(rows) + "\n"


def _placeholder(argument: Any) -> str:
    shown = (argument.metavar or argument.name).upper().strip("{}").rstrip(".")
    shown += "…" * (argument.nargs != 1)
    return shown if argument.required else f"[{shown}]"


def _option(verb: Any, option: Any) -> str:
    flags = ", ".join(
        f"`{flag}`" for flag in sorted([*option.opts, *option.secondary_opts], key=len)
    )
    taken = "" if option.is_flag else f" `{option.metavar or _type(verb, option)}`"
    notes = [_cell(option.help)]
    if option.required:
        notes.append("Required.")
    elif option.default not in (None, False, True, [], ()):
        notes.append(f"Default: `{option.default}`.")
    if option.multiple and "Repeatable" not in notes[0]:
        notes.append("Repeatable.")
    return f"| {flags}{taken} | {' '.join(notes)} |"


def _type(verb: Any, option: Any) -> str:
    """The placeholder for the value of an option without a metavar."""
    hint = str(get_type_hints(verb.callback).get(option.name, ""))
    return "N" if "int" in hint else "X" if "float" in hint else "WORD"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("\n", " ").strip()
