"""Every message that a user can meet, printed (pytest -rP shows it): it says where, what, and what to do."""

from __future__ import annotations

import re

from support.messages import VALUE, Message, messages_of

ERRORS = ("QuarryError", "MachineFault")
"""Not StoreError, which says its remedy in its class."""
ALL = list(messages_of(ERRORS))
IMPERATIVES = (
    "add|ask|begin|change|check|choose|compute|correct|define|give|go on|install|keep|label|leave|look|lower|make|name|order|pass"
    "|put|raise|remove|rename|return|run|save|say|see|set|start|touch|train|try|use|wait|widen|write"
)
TO_DO = re.compile(
    # A clause that begins with what to do, or says what is wanted in place of what was found.
    rf"(?:^|[;,:(.]|\bor|\band|\bthen)\s+(?:\w+ )?(?:{IMPERATIVES})\b"
    r"|\b(?:must|needs?|is needed|are needed|is written|are written|is wanted|are wanted|did you mean|takes?|lists|to be run)\b"
    r"|\b(?:it knows|known are|it has|there are|they hold|end|ends) |--format \w|a real run|start again|written in",
    re.IGNORECASE,
)
PASSED_ON = {
    "xc: '…' is unknown (…)": "who asked adds how functionals are named",
    "xc: '…' has a factor that is not finite": "the same",
    "…: the campaign has another label store now; its other jobs compute it": "nothing is to be done",
    "forecast: all labels of the pool are given (labeling.known); there is nothing to pay": "nothing is to be done",
}
NO_WORDS = re.compile(
    r"\b(exception|traceback|NoneType|illegal|fatal|abort(?:ed)?|please|sorry|oops)\b|!|\n|[^.]\.$", re.I
)
"""Words and marks of programs that speak to programmers, several lines, a full stop at the end."""


def has_remedy(message: Message) -> bool:
    """Whether a message says what to do; one that ends with a value has it there, or is that of what was called."""
    return message.text.endswith(VALUE) or TO_DO.search(message.text) is not None


def test_each_says_what_to_do() -> None:
    for message in ALL:
        print(f"{message.place}: {message.text}")
    assert len(ALL) > 300 and any(message.text.startswith("no campaign in ") for message in ALL)
    without = [message for message in ALL if not has_remedy(message)]
    assert [message for message in without if message.text not in PASSED_ON] == []
    assert {message.text for message in without} == PASSED_ON.keys(), (
        "what is not raised any more is taken out of PASSED_ON"
    )


def test_none_speaks_as_a_program() -> None:
    assert [message for message in ALL if NO_WORDS.search(message.text)] == []


def test_what_has_no_remedy_is_found() -> None:
    for text in ("the label is damaged", f"model.kind: {VALUE} has no name", "labels of the run have failed"):
        assert not has_remedy(Message("here", text))
