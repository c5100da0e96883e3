"""Makes tokens of members, and says what is in one."""

import argparse
import time

import msgspec

from rtdeliver.command.failure import CommandError
from rtdeliver.grants import NOTHING, grants, patterns
from rtdeliver.model import check_member, check_topic
from rtdeliver.tokens import Identity, claims_of, read_token_key


class MakeToken:
    NAME = "token"
    HELP = "prints a token, which makes a viewer a member and says what it may watch"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "member", metavar="MEMBER", nargs="?", help="the member's name; without it, nobody's"
        )
        parser.add_argument(
            "--key-file", required=True, metavar="FILE", help="the frontends' --token-key-file"
        )
        parser.add_argument(
            "--seconds", type=float, default=3600, help="until it expires; 3600 by default"
        )
        for option, what in (
            ("--subscribe", "lets its holder watch these topics, such as conv:ann:*"),
            ("--topic", "lets its holder watch this topic from the start"),
        ):
            parser.add_argument(
                option, action="append", default=[], metavar="TOPIC", help=f"{what}; repeatable"
            )

    @staticmethod
    def run(options: argparse.Namespace) -> None:
        identity = Identity(
            member=None if options.member is None else check_member(options.member),
            expires_at=time.time() + options.seconds,
            grants=grants(patterns(options.subscribe), NOTHING.publish),
            topics=tuple(check_topic(topic) for topic in options.topic),
        )
        print(read_token_key(options.key_file).sign(identity))


class ExplainToken:
    NAME = "explain-token"
    HELP = "prints what a token says, and whether frontends with a key accept it"

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("token", metavar="TOKEN")
        parser.add_argument("--key-file", metavar="FILE", help="the frontends' --token-key-file")

    @staticmethod
    def run(options: argparse.Namespace) -> None:
        try:
            claims = claims_of(options.token)
        except ValueError:
            raise CommandError("this is no JSON Web Token") from None
        print(msgspec.json.format(msgspec.json.encode(claims)).decode())
        if options.key_file:
            identity = read_token_key(options.key_file).check(options.token, now=time.time())
            left_seconds = identity.expires_at - time.time()
            print(f"valid for {identity.member or 'anybody'}, for {left_seconds:.0f} s more")
