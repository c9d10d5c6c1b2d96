"""Size of the stack in containers: `python -m lab.stack.footprint > docs/containers.json` while it is up there.

`python -m lab.stack.footprint readme` then puts what is stored into the README, where figures are never typed; a test
holds the two together.
"""

from __future__ import annotations

import json
import platform
import sys
from typing import TYPE_CHECKING, Any

from lab import readme
from lab.settings import CHECKOUT
from lab.stack import containers, parts

if TYPE_CHECKING:
    from docker.models.images import Image

STORED = CHECKOUT / "docs" / "containers.json"
MEBIBYTE = 1 << 20


def measure() -> dict[str, Any]:
    """Return memory as `lab status` has it, limits, and what the lab's own images add to their base. All in bytes."""
    found = containers.containers()
    images = {own[0].image.tags[0]: own[0].image for own in found.values() if own[0].image and own[0].image.tags}
    return {
        "parts": {
            part.name: {
                "containers": len(found[part.name]),
                "memory_bytes": part.memory_bytes,
                "limit_bytes": sum(one.attrs["HostConfig"]["Memory"] for one in found[part.name]),
            }
            for part in containers.parts()
            if part.name in found
        },
        "images_beyond_their_base_bytes": {
            name.partition(":")[0]: own_layers(image)
            for name, image in sorted(images.items())
            if name.startswith("accept-lab-")
        },
        "environment": {
            "engine": containers.connect().version()["Version"],
            "kernel": platform.release(),
            "machine": platform.machine(),
        },
    }


def own_layers(image: Image) -> int:
    """Bytes of the layers that our Dockerfile has made: those from the newest down to the first of its last stages."""
    total = 0
    for layer in image.history():
        total += layer["Size"]
        if "PATH=/venv/bin" in layer["CreatedBy"]:
            break
    return total


def markdown(document: dict[str, Any]) -> str:
    """The document as lines of Markdown."""
    rows = document["parts"]
    memory, limit = (sum(row[key] for row in rows.values()) for key in ("memory_bytes", "limit_bytes"))
    lines = [
        "| part | memory, MiB | its limit, MiB |",
        "|---|---:|---:|",
        *(
            row_of(f"{name} × {row['containers']}" if row["containers"] > 1 else name, row)
            for name, row in rows.items()
        ),
        row_of("together", {"memory_bytes": memory, "limit_bytes": limit}),
        "",
        besides(document),
    ]
    return "\n".join(lines) + "\n"


def row_of(name: str, row: dict[str, int]) -> str:
    """One line of the table."""
    return f"| {name} | {row['memory_bytes'] / MEBIBYTE:.0f} | {row['limit_bytes'] / MEBIBYTE:.0f} |"


def besides(document: dict[str, Any]) -> str:
    """Return what the images add, and where this was measured."""
    images = document["images_beyond_their_base_bytes"].items()
    added = " and ".join(f"{size / 1e6:.0f} MB for `{name}`" for name, size in images)
    where = document["environment"]
    left_out = sorted(parts.pieces(containers.PLACE).keys() - document["parts"].keys())
    without = f"; without {', '.join(left_out)}" if left_out else ""
    return (
        f"On disk the lab's own images add {added} to the Python image that they are built from.\n"
        f"Docker {where['engine']}, Linux {where['kernel']}, {where['machine']}{without}."
    )


def main() -> int:
    """Print what is measured now, or put what is stored into the README."""
    if sys.argv[1:] == ["readme"]:
        readme.put("containers", markdown(json.loads(STORED.read_text(encoding="utf-8"))))
    else:
        print(json.dumps(measure(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
