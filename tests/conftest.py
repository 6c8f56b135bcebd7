"""Seeded samples: every run of pytest tries the same values, however slow the machine is.

`tools/campaign` runs the full counts with fresh seeds.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "seeded", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("seeded")
