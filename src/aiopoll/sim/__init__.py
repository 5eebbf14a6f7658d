"""A simulator for asyncio programs: many hosts, one seed.

Lives here: `test` and `run`, which run a program in a `World` of simulated hosts; what the world is
made of; and what makes a failure plain.

May import: `aiopoll.kernel`, and nothing else of the package, nor any compiled module.

Data comes from the program under test.  It goes through the host's kernel and the links to other
hosts, and every choice on the way is on the tape.
"""

from ..kernel.sched import Deadlock as Deadlock
from .chaos import Chaos as Chaos
from .chaos import chaos as chaos
from .explore import Exploration as Exploration
from .explore import explore as explore
from .history import NotLinearizable as NotLinearizable
from .history import NotSerializable as NotSerializable
from .history import Undecided as Undecided
from .host import Host as Host
from .host import HostState as HostState
from .inside import Escaped as Escaped
from .inside import buggify as buggify
from .inside import current_host as current_host
from .inside import note as note
from .run import Outcome as Outcome
from .run import run as run
from .sched import Livelock as Livelock
from .tapefile import TapeError as TapeError
from .testing import test as test
from .world import NeverHeld as NeverHeld
from .world import World as World
