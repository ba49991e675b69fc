"""ToolHive's own configuration, which vmcp reads as it is: carried over whole, its literal secrets lifted.

The rule: what stands where the schema wants a secret is one, whatever it looks like.
"""

from typing import Any

from vmcp.clients.secrets import Around, Lift, Vault, telltale
from vmcp.clients.trial import stand_ins
from vmcp.config.schema import canonical, schema, secret_paths, settle, shape
from vmcp.config.source import compose
from vmcp.config.tree import Path, flatten
from vmcp.errors import ConfigError


def whole(name: str, text: str, vault: Vault, around: Around) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """All but its backends, and these by name. Raises ``ConfigError``."""
    root, problems = compose(name, text)
    if root is None or problems:
        raise ConfigError(problems)
    tree, _ = canonical(root, shape(schema()))
    data = flatten(settle(tree, shape(schema()))).data
    hidden = set(secret_paths(data, shape(schema())))
    _lift(data, (), hidden, vault, name, around)
    backends = {}
    for number, each in enumerate(data.pop("backends", ())):
        if isinstance(each, dict):
            backends[str(each.pop("name", f"backend-{number + 1}"))] = each
    return data, backends


def _lift(data: Any, path: Path, hidden: set[Path], vault: Vault, label: str, around: Around) -> None:
    """Put a variable in the place of each secret of a map or a list."""
    for key, value in list(data.items() if isinstance(data, dict) else enumerate(data)):
        at = (*path, key)
        if isinstance(value, dict | list):
            _lift(value, at, hidden, vault, label, around)
        elif isinstance(value, str):
            server = next((str(step) for step in path[2:] if path[:2] == ("outgoingAuth", "backends")), "vmcp")
            place = f"{label}: {'.'.join(map(str, at))}"
            if at in hidden and value and (telltale(value) or "${" not in value):
                data[key] = {"env": vault.keep(f"{server}_{key}", server, value, place)}
            elif telltale(value):
                data[key] = Lift(vault, "VMCP", around).taken(value, "VMCP_VALUE", place)
            else:
                _refer(key, value, vault, place)


def _refer(key: str | int, value: str, vault: Vault, place: str) -> None:
    """Note the variables that the file itself names."""
    for name in [value] if str(key).endswith("Env") or key == "env" else stand_ins(value):
        vault.refer(name, place)
