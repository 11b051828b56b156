"""Brings the static files of `/docs` and `/redoc` into the package, from the npm packages that publish them.

    uv run python scripts/assets.py            fetches (with npm), verifies and writes them anew
    uv run python scripts/assets.py --check    exits with 1 when a shipped file is not the one that was published

To move to another version, change `PACKAGES` here and the names in `modular_agent/api/pages.py`.
"""

import base64
import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

TARGET: Final = Path(__file__).resolve().parent.parent / "src" / "modular_agent" / "api" / "assets"


class Package(NamedTuple):
    """A published package: its integrity in the registry, and its files that are shipped, with their SHA-256."""

    name: str
    version: str
    integrity: str
    files: dict[str, str]


PACKAGES: Final = (
    Package(
        "swagger-ui-dist",
        "5.35.0",
        "sha512-U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ==",
        {
            "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
            "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
            "LICENSE": "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
            "NOTICE": "0d20d1adef18aee3f40dd258172155521ce702ac445cb5f7b7d60ed32dad2fb2",
            "swagger-ui-bundle.js.LICENSE.txt": "37eb6e7e59aed57b2c1acf076574b818ea07b74265717e0bd67b59e0baf9abbb",
        },
    ),
    Package(
        "redoc",
        "2.5.4",
        "sha512-M6jWhG1qoBnH6TFmzJnstyCZ87HmOY/UzDm78mHiYihEdlV/YcS9ogOo1NlElnJMeLsyxHFe2yFc4sNjHTrABQ==",
        {
            "bundles/redoc.standalone.js": "dcaf76612bc4a3fbcc923a8966dee2f6146a5f32e5ce1b6f02dd60cbbf89500b",
            "LICENSE": "d3026d549cf68ab7355bcfa85877bf8f845b3334a7efbfdc63936432fb34ff0e",
            "bundles/redoc.standalone.js.LICENSE.txt": "eed602ec32e00b2b9df1984fbcc26a68"
            "7b1b3193ec01961389c4b8439e6edf73",
        },
    ),
)


def shipped(package: Package, name: str) -> Path:
    """Where a file of a package is in ours; what browsers load is compressed."""
    path = TARGET / f"{package.name}-{package.version}" / Path(name).name
    return path.with_name(f"{path.name}.gz") if path.suffix in (".js", ".css") else path


def content(path: Path) -> bytes:
    """A shipped file as it was published; nothing, if it is not there."""
    if not path.is_file():
        return b""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def fetched(package: Package) -> dict[str, bytes]:
    """The files of a package, from the registry. Raises `ValueError` when it is not what was published."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["npm", "pack", "--silent", f"{package.name}@{package.version}"], cwd=folder, check=True, stdout=sys.stderr
        )
        (archive,) = Path(folder).glob("*.tgz")
        data = archive.read_bytes()
    found = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    if found != package.integrity:
        raise ValueError(f"{package.name} {package.version} has the integrity {found}")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files: dict[str, bytes] = {}
        for name in package.files:
            member = tar.extractfile(f"package/{name}")
            assert member is not None
            files[name] = member.read()
    return files


def faults() -> list[str]:
    """The shipped files that are not the published ones."""
    return [
        str(path.relative_to(TARGET))
        for package in PACKAGES
        for name, digest in package.files.items()
        if hashlib.sha256(content(path := shipped(package, name))).hexdigest() != digest
    ]


def main() -> int:
    if "--check" not in sys.argv:
        for package in PACKAGES:
            for name, data in fetched(package).items():
                path = shipped(package, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)
    if found := faults():
        print(f"not the published files: {', '.join(found)}")
        print("run: uv run python scripts/assets.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
