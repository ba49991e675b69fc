"""The ids of what can be wrong in a configuration. Scripts and dashboards key on them: an id is added, never renamed."""

from enum import StrEnum


class Rule(StrEnum):
    """A stable id; ``MEANING`` has one sentence for each."""

    BAD_YAML = "bad-yaml"
    TOO_LARGE = "too-large"
    TOO_DEEP = "too-deep"
    TOO_MANY = "too-many"
    ONE_DOCUMENT = "one-document"
    DUPLICATE_KEY = "duplicate-key"
    BAD_KEY = "bad-key"
    NO_ANCHORS = "no-anchors"
    NO_TAGS = "no-tags"
    ENV_MISSING = "env-missing"
    ENV_SYNTAX = "env-syntax"
    UNKNOWN_KEY = "unknown-key"
    MISSING_KEY = "missing-key"
    BAD_TYPE = "bad-type"
    BAD_VALUE = "bad-value"
    BAD_NAME = "bad-name"
    MISPLACED_KEY = "misplaced-key"
    NOT_BUILT = "not-built"
    NOT_OURS = "not-ours"
    UNKNOWN_REFERENCE = "unknown-reference"
    DUPLICATE_NAME = "duplicate-name"
    RESERVED_NAME = "reserved-name"
    CONTRADICTION = "contradiction"
    BAD_URL = "bad-url"
    BAD_HEADER = "bad-header"
    ANONYMOUS_NETWORK = "anonymous-network"
    PREFIX_FORMAT = "prefix-format"
    NOTHING_SERVED = "nothing-served"
    PLAIN_HTTP = "plain-http"
    LITERAL_SECRET = "literal-secret"
    BAD_POLICY = "bad-policy"
    BAD_CONDITION = "bad-condition"
    LOCK_FILE = "lock-file"
    LOCK_DRIFT = "lock-drift"
    UNANSWERED = "unanswered"
    NAME_LENGTH = "name-length"
    TOOL_COUNT = "tool-count"
    TOKEN_BUDGET = "token-budget"
    SHADOWED = "shadowed-name"
    ALIKE = "alike"
    HIDDEN_CHARACTERS = "hidden-characters"


MEANING: dict[Rule, str] = {
    Rule.BAD_YAML: "The file is not YAML 1.2.",
    Rule.TOO_LARGE: "The file is larger than the loader reads.",
    Rule.TOO_DEEP: "Values are nested deeper than the loader follows.",
    Rule.TOO_MANY: "There are more problems than are printed in one run.",
    Rule.ONE_DOCUMENT: "A configuration file is exactly one YAML document with a map in it.",
    Rule.DUPLICATE_KEY: "A key stands twice in one map.",
    Rule.BAD_KEY: "A key is something else than a plain string.",
    Rule.NO_ANCHORS: "Anchors, aliases and merge keys are not accepted.",
    Rule.NO_TAGS: "YAML tags and directives are not accepted.",
    Rule.ENV_MISSING: "An environment variable is not set and has no default.",
    Rule.ENV_SYNTAX: "A ${…} substitution is malformed.",
    Rule.UNKNOWN_KEY: "A key that the schema does not know.",
    Rule.MISSING_KEY: "A key that has to be there is missing.",
    Rule.BAD_TYPE: "A value has the wrong type.",
    Rule.BAD_VALUE: "A value is outside what is allowed.",
    Rule.BAD_NAME: "A name has characters that it may not have.",
    Rule.MISPLACED_KEY: "A known key at a place where it can have no effect.",
    Rule.NOT_BUILT: "A feature that this release does not have yet.",
    Rule.NOT_OURS: "A feature of ToolHive's authorization server, which vmcp is not; the hint says what takes its place.",
    Rule.UNKNOWN_REFERENCE: "A name that refers to nothing in the file.",
    Rule.DUPLICATE_NAME: "A name that must be unique is used twice.",
    Rule.RESERVED_NAME: "A name that vmcp keeps for itself.",
    Rule.CONTRADICTION: "Two settings exclude each other.",
    Rule.BAD_URL: "A URL that cannot be used.",
    Rule.BAD_HEADER: "A header that may not be configured.",
    Rule.ANONYMOUS_NETWORK: "Anonymous clients from the network were not allowed explicitly.",
    Rule.PREFIX_FORMAT: "The prefix does not tell backends apart.",
    Rule.NOTHING_SERVED: "Something would be served empty or not at all.",
    Rule.PLAIN_HTTP: "Traffic would leave this machine unencrypted.",
    Rule.LITERAL_SECRET: "A secret seems to stand in the file itself.",
    Rule.BAD_POLICY: "A Cedar policy, or an entity, that cannot mean what it says.",
    Rule.BAD_CONDITION: "A text that is no condition.",
    Rule.LOCK_FILE: "The lock file is missing, or is no lock file.",
    Rule.LOCK_DRIFT: "A backend offers something that is not as it was locked.",
    Rule.UNANSWERED: "A backend did not answer, so what it offers was not checked.",
    Rule.NAME_LENGTH: "A tool's name is longer than a client shows.",
    Rule.TOOL_COUNT: "There are more tools than a client uses at a time.",
    Rule.TOKEN_BUDGET: "A list of tools costs a model more tokens than it should.",
    Rule.SHADOWED: "A backend claims or speaks of the tools of another one.",
    Rule.ALIKE: "Tools of two backends that are easily taken for one another.",
    Rule.HIDDEN_CHARACTERS: "A definition has characters that people do not see and models read.",
}
