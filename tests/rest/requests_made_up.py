"""What schemathesis is told besides the description: `api.py` names this file in SCHEMATHESIS_HOOKS. Invariant: a
request stays as right or as wrong as it was.
"""

import schemathesis

# Long enough to wait, short enough for a thousand waits.
WAIT_S = 0.01


@schemathesis.hook
def before_call(context, case, kwargs):
    """Keeps a right wait short."""
    wait = case.body.get("waitTimeout") if isinstance(case.body, dict) else None
    if isinstance(wait, (int, float)) and not isinstance(wait, bool) and WAIT_S < wait <= 300:
        case.body["waitTimeout"] = WAIT_S
