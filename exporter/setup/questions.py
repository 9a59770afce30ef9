"""The questions in the terminal; the library that asks them is loaded here alone."""

import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import questionary
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent, merge_key_bindings
from prompt_toolkit.keys import Keys
from questionary.prompts.common import InquirerControl

from exporter.setup.forms import FORMS, Check, accept


@dataclass(frozen=True, slots=True)
class Choice:
    """A line to tick, and the numbers it stands for: its own, or all below a branch."""

    text: str
    numbers: tuple[str, ...]


def ask_portal() -> str:
    """Return the portal that is chosen."""
    return choose("Which portal?", {name: form.title for name, form in FORMS.items()})


def choose(question: str, titles: Mapping[str, str], default: str | None = None) -> str:
    """Return one of several words, each shown by its title."""
    choices = [questionary.Choice(title, value=value) for value, title in titles.items()]
    return str(questionary.select(question, choices, default=default, instruction="(arrows, Enter)").unsafe_ask())


def ask(question: str, default: str = "", check: Check = accept) -> str:
    """Return a line of text without blanks around it, once nothing is wrong with it."""

    def validate(text: str) -> bool | str:
        return check(text.strip()) or True

    return str(questionary.text(f"{question}:", default, validate=validate, validate_while_typing=False).unsafe_ask()).strip()


def ask_words(question: str, default: str = "", check: Check = accept) -> list[str]:
    """Return words separated by blanks or commas, at least one."""

    def check_words(text: str) -> str:
        faults = ((word, check(word)) for word in split_words(text))
        return next((f"{word}: {fault}" for word, fault in faults if fault), "" if split_words(text) else "an answer is needed")

    return split_words(ask(question, default, check_words))


def split_words(text: str) -> list[str]:
    """Return the words of a text, each once."""
    return list(dict.fromkeys(text.replace(",", " ").split()))


def ask_secret(question: str, check: Check = accept) -> str:
    """Return a text that is not shown."""

    def validate(text: str) -> bool | str:
        return ("" if text else "an answer is needed") or check(text) or True

    return str(questionary.password(f"{question} (not shown):", validate=validate, validate_while_typing=False).unsafe_ask())


def confirm(question: str, *, default: bool = True) -> bool:
    """Return whether the answer is yes."""
    return bool(questionary.confirm(question, default=default).unsafe_ask())


def ask_choices(choices: Sequence[Choice], ticked: Collection[str] = ()) -> list[str]:
    """Return the numbers of what is ticked: a branch ticks all below it, typing filters, with blanks too."""
    question = questionary.checkbox(
        "Tick what to read",
        [
            questionary.Choice(choice.text, value=choice.numbers, checked=all(number in ticked for number in choice.numbers))
            for choice in choices
        ],
        instruction="(type to filter; Tab ticks, a branch with all below it; Enter ends)",
        validate=lambda found: bool(found) or "tick one at least",
        use_search_filter=True,
        use_jk_keys=False,
    )
    lines = next(control for control in question.application.layout.find_all_controls() if isinstance(control, InquirerControl))
    usual = [question.application.key_bindings] if question.application.key_bindings else []
    question.application.key_bindings = merge_key_bindings([*usual, _build_key_bindings(lines, choices)])
    found = question.unsafe_ask()
    return list(dict.fromkeys(number for numbers in found for number in numbers))


def _build_key_bindings(lines: InquirerControl, choices: Sequence[Choice]) -> KeyBindings:
    """Return keys for a filter with blanks and letters of every language, which the library's lack, and for whole branches."""
    bindings = KeyBindings()

    def tick(_: KeyPressEvent) -> None:
        numbers = {number for value in lines.selected_options for number in value}
        pointed = set(lines.get_pointed_at().value or ())
        numbers = numbers - pointed if pointed <= numbers else numbers | pointed
        lines.selected_options = [choice.numbers for choice in choices if set(choice.numbers) <= numbers]

    def filter_lines(event: KeyPressEvent) -> None:
        lines.add_search_character(event.key_sequence[0].key)  # type: ignore[arg-type]  # a letter is a key too

    bindings.add(Keys.Tab, eager=True)(tick)
    bindings.add(" ", eager=True)(lambda event: filter_lines(event) if lines.search_filter else tick(event))
    letters = {letter for choice in choices for letter in choice.text.lower() + choice.text.upper() if letter.isalnum()}
    for letter in letters - set(string.printable):
        bindings.add(letter, eager=True)(filter_lines)
    return bindings
