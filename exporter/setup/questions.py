"""The questions in the terminal; the library that asks them is loaded here alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import questionary

from exporter.setup.forms import FORMS


@dataclass(frozen=True, slots=True)
class Choice:
    """A line to tick, and the numbers it stands for."""

    text: str
    numbers: tuple[str, ...]


def ask_portal() -> str:
    """Return the portal that is chosen."""
    choices = [questionary.Choice(form.title, value=name) for name, form in FORMS.items()]
    return str(questionary.select("Which portal?", choices).unsafe_ask())


def ask(question: str, default: str = "") -> str:
    """Return a line of text."""
    return str(questionary.text(f"{question}:", default).unsafe_ask()).strip()


def ask_words(question: str, default: str = "") -> list[str]:
    """Return words separated by blanks or commas."""
    return ask(question, default).replace(",", " ").split()


def ask_secret(question: str) -> str:
    """Return a text that is not shown."""
    return str(questionary.password(f"{question} (not shown):").unsafe_ask())


def confirm(question: str) -> bool:
    """Return whether the answer is yes, as it is by default."""
    return bool(questionary.confirm(question).unsafe_ask())


def ask_choices(choices: Sequence[Choice]) -> list[str]:
    """Return the numbers of what is ticked: a branch stands for all below it; typing filters."""
    ticked = questionary.checkbox(
        "Tick what to read; a branch means all below it",
        [questionary.Choice(choice.text, value=choice.numbers) for choice in choices],
        instruction="(blank ticks, Enter ends, typing filters)",
        validate=lambda found: bool(found) or "tick one at least",
        use_search_filter=True,
        use_jk_keys=False,
    ).unsafe_ask()
    return list(dict.fromkeys(number for numbers in ticked for number in numbers))
