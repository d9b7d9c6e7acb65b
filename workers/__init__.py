"""Example applications: `tasker -A workers worker` runs them, `tasker demo` shows them all.

Each module is one template with its handlers, an input, and what must come of it. They import nothing but
`tasker`, as any application would.
"""

from __future__ import annotations

from . import data_pipeline, diamond, linear, mixed, order_fulfilment, parallel_merge, tree

EXAMPLES = {
    module.__name__.rpartition(".")[2]: module.example
    for module in (linear, diamond, parallel_merge, tree, mixed, order_fulfilment, data_pipeline)
}
"""Every example by the name of its module, the simplest first."""
