"""Decodes and checks the bodies of requests to the live-video app."""

from typing import Annotated

import msgspec
from msgspec import Meta

from rtdeliver.errors import BadRequest
from rtdeliver.likes.model import check_name, check_reaction, check_text
from rtdeliver.model import Member
from rtdeliver.wire import decode


class _SessionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    password: str = ""


class _LikeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reaction: str = "heart"


class _TextBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str


class _SeenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    message: Annotated[int, Meta(ge=1, le=2**63 - 1)]


class _EmptyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


_session_body = msgspec.json.Decoder(_SessionBody)
_like_body = msgspec.json.Decoder(_LikeBody)
_text_body = msgspec.json.Decoder(_TextBody)
_seen_body = msgspec.json.Decoder(_SeenBody)
_empty_body = msgspec.json.Decoder(_EmptyBody)


def decode_session(body: bytes) -> tuple[Member, str]:
    """Return the name that a visitor takes, and the password that a moderator gives.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    fields = decode(_session_body.decode, body, BadRequest)
    return check_name(fields.name), fields.password


def decode_like(body: bytes) -> str:
    """Return a reaction: a heart if the body has none.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    return check_reaction(decode(_like_body.decode, body, BadRequest).reaction)


def decode_text(body: bytes, *, max_characters: int) -> str:
    """Return the text of a comment or a message.

    :raises Refusal: `BadJson`, `BadRequest` or `TooLarge`.
    """
    text = decode(_text_body.decode, body, BadRequest).text
    return check_text(text, max_characters=max_characters)


def decode_seen(body: bytes) -> int:
    """Return the number of the last message that was seen.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    return decode(_seen_body.decode, body, BadRequest).message


def decode_nothing(body: bytes) -> None:
    """Check that a body is empty or an empty object.

    :raises Refusal: `BadJson` or `BadRequest`.
    """
    if body:
        decode(_empty_body.decode, body, BadRequest)
