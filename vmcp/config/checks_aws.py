"""What a schema cannot say about ``awsSts``: roles that are none, mappings that fit nobody, conditions that say nothing.

The rule: a mapping that could never be asked, or never be answered, is told before anything starts.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from vmcp.config.aws import ROOTS
from vmcp.config.conditions import BadCondition, compiled
from vmcp.config.quantities import seconds
from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.errors import Problem

Data = Mapping[str, Any]

SHORTEST: Final = 900
LONGEST: Final = 43_200
"""Seconds that AWS allows for a session."""
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)


def checks(document: Document, path: Path, strategy: Data) -> Iterator[Problem]:
    """What is wrong with a strategy of type ``aws_sts`` that stands at ``path``."""
    at: Path = (*path, "awsSts")
    block: Data = strategy.get("awsSts", {})
    if block:
        yield from _roles(document, at, block)
        yield from _duration(document, at, block)
    if "listingToken" in strategy and block and "fallbackRoleArn" not in block:
        what = "has no effect without awsSts.fallbackRoleArn, which is the role that vmcp takes with it"
        yield document.problem(Rule.MISPLACED_KEY, (*path, "listingToken"), what, "add fallbackRoleArn", key=True)


def _roles(document: Document, path: Path, block: Data) -> Iterator[Problem]:
    mappings = block.get("roleMappings", ())
    unread = document.broken & {(*path, "fallbackRoleArn"), (*path, "roleMappings")}
    if "fallbackRoleArn" not in block and not mappings and not unread:
        hint = "add fallbackRoleArn, or roleMappings: [{claim: …, roleArn: …}]"
        yield document.problem(Rule.MISSING_KEY, path, "there is no role that anybody could take", hint, key=True)
    if "fallbackRoleArn" in block:
        yield from _arn(document, (*path, "fallbackRoleArn"), block["fallbackRoleArn"])
    given = [(number, each) for number, each in enumerate(mappings) if each is not None]
    for number, each in given:
        yield from _mapping(document, (*path, "roleMappings", number), each)
    if "roleClaim" in block and not any("claim" in each for _, each in given):
        what = "has no effect: no role mapping asks for a claim"
        yield document.problem(Rule.MISPLACED_KEY, (*path, "roleClaim"), what, "remove it", key=True)


def _mapping(document: Document, path: Path, mapping: Data) -> Iterator[Problem]:
    if "roleArn" in mapping:
        yield from _arn(document, (*path, "roleArn"), mapping["roleArn"])
    if "claim" in mapping and "matcher" in mapping:
        at: Path = (*path, "matcher")
        what = "claim and matcher exclude each other"
        yield document.problem(Rule.CONTRADICTION, at, what, "remove one of them", key=True)
    elif not ({"claim", "matcher"} & mapping.keys() or document.broken & {(*path, "claim"), (*path, "matcher")}):
        hint = "add claim: VALUE, or matcher: CONDITION"
        yield document.problem(Rule.MISSING_KEY, path, "the mapping fits nobody", hint)
    if "matcher" in mapping:
        try:
            compiled(mapping["matcher"], ROOTS)
        except BadCondition as error:
            hint = 'write for example: "admins" in claims.groups && claims.sub != "guest"'
            yield document.problem(Rule.BAD_CONDITION, (*path, "matcher"), f"is no condition: {error}", hint)


def _arn(document: Document, path: Path, arn: str) -> Iterator[Problem]:
    if not _ROLE.fullmatch(arn):
        what = f"{document.show(path, arn)} is no ARN of a role"
        yield document.problem(Rule.BAD_VALUE, path, what, "write for example arn:aws:iam::123456789012:role/reader")


def _duration(document: Document, path: Path, block: Data) -> Iterator[Problem]:
    said = block.get("sessionDuration")
    if isinstance(said, str) and not SHORTEST <= seconds(said) <= LONGEST:
        what = f"{document.show((*path, 'sessionDuration'), said)} is not between 15m and 12h"
        yield document.problem(Rule.BAD_VALUE, (*path, "sessionDuration"), what)
