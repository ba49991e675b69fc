"""Servers that many people use, so that they need not look up how each is reached.

The rule: this is data, and only of what its makers publish themselves; a name that is not sure is not here. A secret is always a
variable.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

NONE: Final[Mapping[str, str]] = {}
OAUTH: Final = "oauth"
"""Each user logs in himself, in his browser."""


@dataclass(frozen=True, slots=True)
class Known:
    """One server: a ``url`` or a ``command``. ``change`` says what of it is an example; ``also`` are further words for it."""

    name: str
    title: str
    maker: str
    about: str
    url: str = ""
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: NONE)
    headers: Mapping[str, str] = field(default_factory=lambda: NONE)
    auth: str = ""
    change: str = ""
    also: str = ""


def _npx(package: str, *more: str) -> tuple[str, ...]:
    return ("npx", "-y", package, *more)


_BEARER: Final = "Authorization"

SERVERS: Final[tuple[Known, ...]] = (
    # --- those that start as a program
    Known(
        "filesystem",
        "Filesystem",
        "MCP project",
        "Reads and writes the files of the folders that it is given.",
        command=_npx("@modelcontextprotocol/server-filesystem", "/srv/docs"),
        change="/srv/docs",
        also="files folder directory local",
    ),
    Known(
        "memory",
        "Memory",
        "MCP project",
        "Remembers facts in a graph between conversations.",
        command=_npx("@modelcontextprotocol/server-memory"),
        also="knowledge graph notes",
    ),
    Known(
        "thinking",
        "Sequential thinking",
        "MCP project",
        "Takes a problem apart into steps that can be revised.",
        command=_npx("@modelcontextprotocol/server-sequential-thinking"),
        also="reasoning plan",
    ),
    Known(
        "everything",
        "Everything",
        "MCP project",
        "Shows every feature of the protocol; to test clients and gateways.",
        command=_npx("@modelcontextprotocol/server-everything"),
        also="test example demo",
    ),
    Known(
        "fetch",
        "Fetch",
        "MCP project",
        "Gets web pages and makes Markdown of them.",
        command=("uvx", "mcp-server-fetch"),
        also="http web download",
    ),
    Known(
        "git",
        "Git",
        "MCP project",
        "Reads, searches and changes a Git repository.",
        command=("uvx", "mcp-server-git", "--repository", "/srv/project"),
        change="/srv/project",
        also="commit diff code",
    ),
    Known(
        "time",
        "Time",
        "MCP project",
        "Says what time it is, and converts between time zones.",
        command=("uvx", "mcp-server-time"),
        also="clock timezone date",
    ),
    Known(
        "playwright",
        "Playwright",
        "Microsoft",
        "Drives a web browser, by what the page offers rather than by pictures.",
        command=_npx("@playwright/mcp@latest"),
        also="browser test web automation",
    ),
    Known(
        "chrome-devtools",
        "Chrome DevTools",
        "Google",
        "Looks into a running Chrome: network, performance, console.",
        command=_npx("chrome-devtools-mcp@latest"),
        also="browser debug performance",
    ),
    Known(
        "brave-search",
        "Brave Search",
        "Brave",
        "Searches the web, news, pictures and places.",
        command=_npx("@brave/brave-search-mcp-server"),
        env={"BRAVE_API_KEY": "${BRAVE_API_KEY}"},
        also="web search",
    ),
    Known(
        "firecrawl",
        "Firecrawl",
        "Firecrawl",
        "Crawls web sites and extracts what is in them.",
        command=_npx("firecrawl-mcp"),
        env={"FIRECRAWL_API_KEY": "${FIRECRAWL_API_KEY}"},
        also="scrape crawl web",
    ),
    Known(
        "tavily",
        "Tavily",
        "Tavily",
        "Searches the web for agents, and extracts pages.",
        command=_npx("tavily-mcp@latest"),
        env={"TAVILY_API_KEY": "${TAVILY_API_KEY}"},
        also="web search research",
    ),
    Known(
        "mongodb",
        "MongoDB",
        "MongoDB",
        "Queries databases of MongoDB; as it stands here, without changing them.",
        command=_npx("mongodb-mcp-server@latest", "--readOnly"),
        env={"MDB_MCP_CONNECTION_STRING": "${MDB_MCP_CONNECTION_STRING}"},
        also="database nosql atlas",
    ),
    Known(
        "aws-docs",
        "AWS documentation",
        "AWS",
        "Searches and reads the documentation of AWS.",
        command=("uvx", "awslabs.aws-documentation-mcp-server@latest"),
        also="amazon cloud docs",
    ),
    # --- those that are reached by a URL
    Known(
        "github",
        "GitHub",
        "GitHub",
        "Repositories, issues, pull requests, actions.",
        url="https://api.githubcopilot.com/mcp/",
        headers={_BEARER: "Bearer ${GITHUB_TOKEN}"},
        also="git code issues pull requests",
    ),
    Known(
        "context7",
        "Context7",
        "Upstash",
        "Documentation of programming libraries, by version.",
        url="https://mcp.context7.com/mcp",
        also="docs library code",
    ),
    Known(
        "deepwiki",
        "DeepWiki",
        "Cognition",
        "Asks and reads about public repositories of GitHub.",
        url="https://mcp.deepwiki.com/mcp",
        also="docs github code",
    ),
    Known(
        "microsoft-learn",
        "Microsoft Learn",
        "Microsoft",
        "Searches and reads the documentation of Microsoft and Azure.",
        url="https://learn.microsoft.com/api/mcp",
        also="docs azure dotnet",
    ),
    Known(
        "cloudflare-docs",
        "Cloudflare documentation",
        "Cloudflare",
        "Searches the documentation of Cloudflare.",
        url="https://docs.mcp.cloudflare.com/mcp",
        also="docs workers",
    ),
    Known(
        "hugging-face",
        "Hugging Face",
        "Hugging Face",
        "Models, datasets, papers and Spaces.",
        url="https://huggingface.co/mcp",
        headers={_BEARER: "Bearer ${HF_TOKEN}"},
        also="machine learning models datasets",
    ),
    Known(
        "neon",
        "Neon",
        "Neon",
        "Projects, branches and queries of Postgres databases at Neon.",
        url="https://mcp.neon.tech/mcp",
        headers={_BEARER: "Bearer ${NEON_API_KEY}"},
        also="postgres database sql",
    ),
    Known(
        "notion",
        "Notion",
        "Notion",
        "Searches, reads and writes pages.",
        url="https://mcp.notion.com/mcp",
        auth=OAUTH,
        also="wiki notes docs",
    ),
    Known(
        "linear",
        "Linear",
        "Linear",
        "Issues, projects and comments.",
        url="https://mcp.linear.app/mcp",
        auth=OAUTH,
        also="issues tickets project",
    ),
    Known(
        "sentry",
        "Sentry",
        "Sentry",
        "Errors and their traces, releases and projects.",
        url="https://mcp.sentry.dev/mcp",
        auth=OAUTH,
        also="errors monitoring debug",
    ),
    Known(
        "atlassian",
        "Atlassian",
        "Atlassian",
        "Jira, Confluence and Compass.",
        url="https://mcp.atlassian.com/v1/mcp/authv2",
        auth=OAUTH,
        also="jira confluence issues wiki tickets",
    ),
    Known(
        "stripe",
        "Stripe",
        "Stripe",
        "Customers, payments, invoices, and the documentation.",
        url="https://mcp.stripe.com",
        auth=OAUTH,
        also="payments billing",
    ),
)
