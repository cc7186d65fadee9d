"""Compiled programs: what they are on eight devices, and how often one is compiled."""

import jax

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def collectives(text):
    """Kinds of communication between devices in a compiled program's text."""
    return [name for name in COLLECTIVES if name in text]


def on_devices(fn, *batch, shared=()):
    """fn(*shared, *batch) for a batch spread over eight devices, which must not communicate."""
    mesh = jax.make_mesh((8,), ("batch",))
    shared = jax.device_put(shared, jax.NamedSharding(mesh, jax.P()))
    batch = jax.device_put(batch, jax.NamedSharding(mesh, jax.P("batch")))
    program = jax.jit(fn).lower(*shared, *batch).compile()
    assert not collectives(program.as_text())
    return program(*shared, *batch)


def counted(fn):
    """The function compiled, and a list that grows whenever it is traced."""
    traces = []

    @jax.jit
    def run(*args):
        traces.append(None)
        return fn(*args)

    return run, traces
