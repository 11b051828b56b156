"""The operator's own prices: `prices.yaml` below the configs root."""

from pathlib import Path
from typing import Any, Final

import yaml

from modular_agent.engine.providers.errors import InvalidPrices
from modular_agent.engine.providers.pricing import TokenPrices, parse_prices
from modular_agent.errors import Fault, Text

__all__ = ["PRICE_FILE", "read_prices"]

PRICE_FILE: Final = "prices.yaml"
_NOT_YAML: Final = Text("this is not YAML", "这不是 YAML")


def read_prices(root: Path) -> dict[str, TokenPrices]:
    """The prices in the file, none if there is no such file; blocking. Raises `InvalidPrices`."""
    try:
        text = (root / PRICE_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise InvalidPrices(
            [Fault(code="price_text", text=Text("the file is not UTF-8", "文件不是 UTF-8"), file=PRICE_FILE)]
        ) from None
    try:
        data: Any = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = (mark.line + 1, mark.column + 1) if mark is not None else (None, None)
        text = Text(error.problem, f"不是有效的 YAML：{error.problem}") if error.problem else _NOT_YAML
        fault = Fault(code="price_text", text=text, file=PRICE_FILE, line=place[0], column=place[1])
        raise InvalidPrices([fault]) from None
    except yaml.YAMLError:
        raise InvalidPrices([Fault(code="price_text", text=_NOT_YAML, file=PRICE_FILE)]) from None
    return parse_prices(data, source=PRICE_FILE)
