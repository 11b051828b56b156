"""Tools of the `orders` workflow: Python functions whose signatures and docstrings are what the model is told.

An `async def` tool runs in the server's event loop; a plain one in a worker process, where it can be stopped. A
parameter that is called `context` is filled in by the server: it has `files` (a folder of this session's own), `log`,
and `idempotency_key`, which is the same when a call is repeated.
"""

import asyncio
import json

ORDERS = {
    "A-1001": {"article": "kettle", "price": 39.90, "status": "delivered"},
    "A-1002": {"article": "bicycle", "price": 749.00, "status": "on its way"},
    "A-1003": {"article": "lamp", "price": 24.50, "status": "delivered"},
}


async def find_order(order_id: str) -> dict:
    """Looks an order up.

    Args:
        order_id: The order's number, such as A-1001.
    """
    await asyncio.sleep(0)  # a real one would ask a database or another service here
    order = ORDERS.get(order_id.upper())
    if order is None:
        raise LookupError(f"There is no order {order_id}.")  # the model is told, and goes on
    return {"order_id": order_id.upper(), **order}


def refund(order_id: str, amount: float, context) -> str:
    """Pays money back to the customer.

    Args:
        order_id: The order's number.
        amount: How much, in euros.
    """
    price = ORDERS[order_id.upper()]["price"]
    if not 0 < amount <= price:
        raise ValueError(f"The amount must be above 0 and at most {price:.2f}.")
    context.log("info", f"refunding {amount:.2f} for {order_id}")
    entry = {"order_id": order_id.upper(), "amount": amount, "key": context.idempotency_key}
    context.files.mkdir(parents=True, exist_ok=True)
    with (context.files / "refunds.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    return f"{amount:.2f} EUR were paid back for order {order_id.upper()}."
