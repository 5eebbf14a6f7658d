"""Histories of operations, and checks of what they show.

`History` records; `linearizable` and `serializable` check, and say in words what contradicts.
"""

from .linearize import NotLinearizable, linearizable
from .models import ANY, CasRegister, Counter, KeyValue, Lock, Model, Queue, Register, Set
from .record import History, Operation, Status, Transaction, Undecided
from .serialize import NotSerializable, serializable

__all__ = [
    "ANY",
    "CasRegister",
    "Counter",
    "History",
    "KeyValue",
    "Lock",
    "Model",
    "NotLinearizable",
    "NotSerializable",
    "Operation",
    "Queue",
    "Register",
    "Set",
    "Status",
    "Transaction",
    "Undecided",
    "linearizable",
    "serializable",
]
