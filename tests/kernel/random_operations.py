"""How many operations the random scenarios have, and how Hypothesis draws them.

AIOPOLL_DIFFERENTIAL_OPERATIONS is the number in all, of each test.
"""

import os

from hypothesis import HealthCheck, settings

OPERATIONS_IN_ALL = int(os.environ.get("AIOPOLL_DIFFERENTIAL_OPERATIONS", "4000"))
OPERATIONS_EACH = 40


def scenarios() -> settings:
    """The same scenarios in each process; a failure prints how to run its own again."""
    return settings(
        max_examples=OPERATIONS_IN_ALL // OPERATIONS_EACH,
        deadline=None,
        derandomize=True,
        print_blob=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
