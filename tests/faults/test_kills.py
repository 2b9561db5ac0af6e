"""Whatever is killed, whenever: starting again ends in the same bytes."""

import pytest

from support.faults.fault_study import TABLES, FaultTree, artifacts, differences
from support.faults.moments import Kill, pending, plan

KILLS = [
    # The driver dies while pretraining goes on; the next driver's job takes over from the orphan.
    Kill("driver", "pretrain_model", "os.rename", "state.safetensors", 5),
    # Half of a checkpoint is written.
    Kill("step", "pretrain_model", "os.rename", "step_000024/model.safetensors"),
    Kill("step", "extract_activations", "os.rename", "train_00001", argument="/last/"),
    Kill("step", "train_saes", "os.rename", "state.safetensors", 7),
    # An orphan has written all it has to, and no driver has seen it.
    Kill("driver", "patch_translations", "exit", argument="/last/"),
]


@pytest.mark.slow
def test_killed_drivers_and_steps_leave_no_trace(
    fresh: FaultTree, expected: dict[str, str]
) -> None:
    plan(fresh.plans, KILLS)
    drivers = fresh.run_to_the_end(*TABLES, attempts=len(KILLS) + 2)
    assert not pending(fresh.plans), "a kill never came"
    assert drivers > 3
    assert differences(artifacts(fresh.results), expected) == []
