"""Names that members can have, for Hypothesis."""

from hypothesis import strategies as st

from rtdeliver.errors import BadRequest
from rtdeliver.likes.model import NAME_CHARACTERS, check_name
from rtdeliver.model import Member

# Few characters that are close to each other, so that one name often begins as another does.
_CLOSE = "aA-_0\u00e4\u03b1\uff41\U0001d400\u738b\u093f"


def names() -> st.SearchStrategy[Member]:
    """Any name that is taken."""
    characters = st.sampled_from(_CLOSE) | st.characters(categories=["L", "N"])
    texts = st.text(characters, min_size=1, max_size=NAME_CHARACTERS)
    return texts.filter(_is_taken).map(check_name)


def _is_taken(text: str) -> bool:
    try:
        check_name(text)
    except BadRequest:
        return False
    return True
