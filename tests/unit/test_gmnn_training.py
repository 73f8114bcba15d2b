"""Training of the Gaussian-moment network: what it learns, when it stops, that it goes on where it was killed."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from quarry.errors import QuarryError
from quarry.models.adam import Adam
from quarry.models.base import TrainingData
from quarry.models.gmnn import training
from quarry.models.gmnn.model import GaussianMomentModel
from quarry.models.gmnn.training import optimisers_of
from quarry.structures import StructureSet
from support.potentials import potential, settings, small_cell, strained_copper, toy_data, trained

DATA = toy_data()


def weights(model: GaussianMomentModel) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in model._trained[0].parameters.tensors]


def same(one: GaussianMomentModel, other: GaussianMomentModel) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_it_learns_energies_and_forces():
    """Of two kinds of molecules, whose total energies are hundreds of eV apart: the references take that up."""
    unseen, model = toy_data(20, seed=9), trained(DATA, epochs=60)
    found = model.predict(unseen.structures, frozenset({"energy", "forces"}))
    errors = found.mean["energy"] - unseen.targets["energy"]
    sizes = np.diff(unseen.structures.offsets)
    spread = np.sqrt(np.mean([unseen.targets["energy"][sizes == size].var() for size in (3, 5)]))
    assert np.sqrt(np.mean(errors**2)) < 0.5 * spread
    wrong = found.mean["forces"] - unseen.targets["forces"]
    assert np.sqrt(np.mean(wrong**2)) < 0.3 * np.sqrt(np.mean(unseen.targets["forces"] ** 2))
    assert found.std == {} and model.hyperparameters["elements"] == ["H", "C", "O"]


def test_it_learns_energies_alone():
    data, unseen = toy_data(60, forces=False), toy_data(20, seed=9, forces=False)
    model = trained(data, epochs=60)
    found = model.predict(unseen.structures, frozenset({"energy"}))
    sizes = np.diff(unseen.structures.offsets)
    spread = np.sqrt(np.mean([unseen.targets["energy"][sizes == size].var() for size in (3, 5)]))
    assert set(found.mean) == {"energy"}
    assert np.sqrt(np.mean((found.mean["energy"] - unseen.targets["energy"]) ** 2)) < 0.7 * spread


def test_the_loss_is_equation_4():
    """w_E dE^2 + w_F / (3 n_atoms) |dF|^2, mean over structures, from predictions of molecules of two sizes."""
    conf = settings(energy_weight=2.0, forces_weight=30.0, held_out=0.5, epochs=1)
    model = GaussianMomentModel(conf, ("energy", "forces"))
    held = toy_data(6, seed=3)
    model.fit(DATA, held, np.random.default_rng(0))
    found = model.predict(held.structures, frozenset({"energy", "forces"}))
    owner = np.repeat(np.arange(6), np.diff(held.structures.offsets))
    squares = np.bincount(owner, ((found.mean["forces"] - held.targets["forces"]) ** 2).sum(axis=1))
    off = found.mean["energy"] - held.targets["energy"]
    wanted = np.mean(2.0 * off**2 + 30.0 * squares / (3 * np.bincount(owner)))
    assert model.hyperparameters["held_out_loss"] == pytest.approx(wanted, rel=1e-4)


def test_stress_counts_where_there_is_one():
    """Molecules beside cells; a large weight of stress brings the stresses down."""
    cells = StructureSet.from_structures([small_cell(seed) for seed in range(6)])
    structures = DATA.structures.subset(range(6)).joined(cells)
    stress = np.full((12, 3, 3), np.nan)
    stress[6:] = 0.02 * np.eye(3)
    targets = {
        "energy": np.concatenate([DATA.targets["energy"][:6], np.full(6, -300.0)]),
        "forces": np.zeros((len(structures.numbers), 3)),
        "stress": stress,
    }
    data, wrong = TrainingData(structures, targets), []
    for weight in (0.0, 1e4):
        model = GaussianMomentModel(settings(stress_weight=weight, epochs=30), ("energy", "forces", "stress"))
        model.fit(data, data, np.random.default_rng(0))
        found = model.predict(structures, frozenset({"energy", "stress"})).mean["stress"]
        assert np.isnan(found[:6]).all() and np.isfinite(found[6:]).all()
        wrong.append(float(np.abs(found[6:] - stress[6:]).mean()))
    assert wrong[1] < 0.5 * wrong[0]


def test_it_learns_energies_forces_and_stresses_of_a_metal():
    """Cells of four atoms, each of which sees images of itself; errors against the spread of unseen labels."""
    unseen, model = strained_copper(10, 2), trained(strained_copper(40, 1), epochs=40)
    found = model.predict(unseen.structures, frozenset(unseen.targets)).mean
    for name, share in (("energy", 0.3), ("forces", 0.2), ("stress", 0.3)):
        assert np.sqrt(np.mean((found[name] - unseen.targets[name]) ** 2)) < share * unseen.targets[name].std()


def test_the_same_labels_in_any_order_give_the_same_model():
    order = np.random.default_rng(3).permutation(len(DATA))
    one, other = trained(DATA, epochs=3), trained(DATA.subset(order), epochs=3)
    assert same(one, other)
    assert not same(one, trained(DATA, seed=2, epochs=3))


def test_the_best_epoch_is_kept_and_training_stops():
    """Held-out forces opposite to those of the training labels: their loss is least near the start."""
    held = toy_data(6, seed=3)
    held.targets["forces"] *= -1.0
    model = GaussianMomentModel(settings(epochs=500, patience=5, learning_rate=0.05), ("energy", "forces"))
    model.fit(DATA, held, np.random.default_rng(0))
    assert model.hyperparameters["epochs"] < 20
    cut = GaussianMomentModel(
        settings(epochs=model.hyperparameters["epochs"], patience=5, learning_rate=0.05), model.learnt
    )
    cut.fit(DATA, held, np.random.default_rng(0))
    assert same(model, cut)
    assert not model.warnings and "may not have converged" in cut.warnings[0]
    for schedule in ("linear", "cosine"):
        falls = GaussianMomentModel(
            settings(epochs=30, patience=5, learning_rate=0.05, schedule=schedule), model.learnt
        )
        falls.fit(DATA, held, np.random.default_rng(0))
        assert falls.hyperparameters["epochs"] == 30 and not falls.warnings


def test_the_average_of_the_last_steps():
    """A plain mean over nine steps at first; later the last ninth of them counts, and at most a thousand."""
    parameters = trained(DATA.subset(range(6)), epochs=1, hidden=[2])._trained[0].parameters
    average, values = parameters.map(torch.zeros_like), np.random.default_rng(0).standard_normal(20_000)
    for step, value in enumerate(values, 1):
        training.take_up(average, parameters.map(lambda t, v=value: torch.full_like(t, v)), step)
        if step in (1, 300):
            ages = np.arange(step, dtype=float)[::-1]
            # Weight of step k by the product formula of Shamir and Zhang, their eta being 8.
            kept = [np.prod([(j - 1) / (j + 8) for j in range(k + 1, step + 1)]) for k in range(1, step + 1)]
            shares = 9 / (np.arange(1, step + 1) + 8) * kept
            assert shares.sum() == pytest.approx(1) and (shares * ages).sum() <= step / 9
            assert float(average.shift[0]) == pytest.approx((shares * values[:step]).sum(), abs=1e-5)
    ages = np.arange(len(values))[::-1]
    assert float(average.shift[0]) == pytest.approx((0.999**ages * values).sum() / 1000, abs=0.01)


def test_energies_are_not_off_by_what_a_high_learning_rate_shakes_them(monkeypatch):
    """All energies of a step are off by the same, which forces do not feel and a loss made of them hardly sees."""
    unseen, offs = toy_data(40, seed=9), []
    for taken_up in (training.take_up, lambda average, now, _: torch._foreach_copy_(average.tensors, now.tensors)):
        monkeypatch.setattr(training, "take_up", taken_up)
        found = [
            trained(DATA, seed=seed, epochs=120, learning_rate=0.02).predict(unseen.structures, frozenset({"energy"}))
            for seed in (1, 2, 3)
        ]
        offs.append([abs(np.median(one.mean["energy"] - unseen.targets["energy"])) for one in found])
    assert np.mean(offs[0]) < 0.3 * np.mean(offs[1])


class Killed(Exception):
    pass


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(tmp_path, monkeypatch, schedule):
    changes = {"epochs": 12, "patience": 4, "schedule": schedule}
    whole = trained(DATA, **changes)
    steps, inner = [0], training.loss_and_gradient

    def counted(*args):
        steps[0] += args[-1]
        if steps[0] == 33:
            raise Killed
        return inner(*args)

    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(training, "loss_and_gradient", counted)
    with pytest.raises(Killed):
        model = GaussianMomentModel(settings(**changes), ("energy", "forces"))
        model.fit(DATA, None, np.random.default_rng(1), checkpoint=tmp_path)
    steps[0] = 1000
    again = GaussianMomentModel(settings(**changes), ("energy", "forces"))
    again.fit(DATA, None, np.random.default_rng(1), checkpoint=tmp_path)
    # 36 examples in steps of 8 are 5 steps an epoch; 6 epochs were whole.
    assert steps[0] == 1000 + 5 * 6
    assert same(whole, again) and whole.hyperparameters == again.hyperparameters


def test_a_damaged_state_is_passed_over(tmp_path):
    (tmp_path / training.STATE).write_bytes(b"half a file")
    model = GaussianMomentModel(settings(epochs=2), ("energy", "forces"))
    model.fit(DATA, None, np.random.default_rng(1), checkpoint=tmp_path)
    assert same(model, trained(DATA, epochs=2))
    with h5py.File(tmp_path / training.STATE, "w") as handle:
        handle.attrs["steps"] = 3
    model.fit(DATA, None, np.random.default_rng(1), checkpoint=tmp_path)
    assert same(model, trained(DATA, epochs=2))


def test_a_warm_start_begins_where_the_last_model_ended():
    """One epoch from a trained model is better than one from random weights, though the references have changed."""
    first = trained(DATA, epochs=60)
    more = toy_data(50, seed=4)
    losses = []
    for start in (None, first):
        model = GaussianMomentModel(settings(epochs=1, learning_rate=1e-5), ("energy", "forces"))
        model.fit(more, more, np.random.default_rng(0), start=start)
        losses.append(model.hyperparameters["held_out_loss"])
    assert losses[1] < 0.1 * losses[0]


def test_a_warm_start_keeps_what_it_knows_of_elements_beside_new_ones():
    """The first model has seen oxygen and hydrogen: their energy in water is the same after the start."""
    water = DATA.subset(np.flatnonzero(np.diff(DATA.structures.offsets) == 3))
    first, second = trained(water, epochs=10), trained(DATA, epochs=1, learning_rate=1e-12)
    model = GaussianMomentModel(settings(epochs=1, learning_rate=1e-12), ("energy", "forces"))
    model.fit(DATA, None, np.random.default_rng(1), start=first)
    assert model.hyperparameters["elements"] == second.hyperparameters["elements"] == ["H", "C", "O"]
    want = frozenset({"energy"})
    before, after = (m.predict(water.structures, want).mean["energy"] for m in (first, model))
    assert np.allclose(before, after, atol=1e-4)


def test_few_labels_and_groups():
    """One label: all epochs without early stopping. Copies stay on one side of the split."""
    model = trained(DATA.subset([0]), epochs=2)
    assert model.hyperparameters["held_out_loss"] is None and model.hyperparameters["epochs"] == 2
    groups = np.arange(len(DATA)) // 20
    grouped = TrainingData(DATA.structures, DATA.targets, groups=groups)
    assert np.isfinite(trained(grouped, epochs=1).hyperparameters["held_out_loss"])


def test_labels_that_are_no_numbers_and_losses_that_are_none_are_refused():
    broken = toy_data(4)
    broken.targets["forces"][2, 1] = np.nan
    with pytest.raises(QuarryError, match="label's forces is not a finite number"):
        trained(broken)
    with pytest.raises(QuarryError, match=r"model\.learning_rate: .* lower the learning rate"):
        trained(DATA, learning_rate=1e11, epochs=3)
    with pytest.raises(QuarryError, match="nothing to train on"):
        trained(DATA.subset([]))


def test_amsgrad_is_that_of_torch():
    rng = np.random.default_rng(0)
    mine = [torch.zeros(3), torch.ones(2, 2)]
    theirs = [torch.nn.Parameter(tensor.clone()) for tensor in mine]
    one = Adam([], mine, 0.1, 0.0, amsgrad=True)
    other = torch.optim.Adam(theirs, lr=0.1, amsgrad=True)
    for step in range(6):
        slopes = [
            torch.from_numpy((rng.normal(size=tuple(t.shape)) / (1 + 9 * (step > 2))).astype(np.float32)) for t in mine
        ]
        one.step(slopes)
        for parameter, slope in zip(theirs, slopes, strict=True):
            parameter.grad = slope
        other.step()
    for a, b in zip(mine, theirs, strict=True):
        assert torch.allclose(a, b.detach(), atol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "amsgrad"), [("constant", True), ("plateau", True), ("linear", False), ("cosine", False)]
)
def test_where_the_rate_falls_to_zero_a_large_first_gradient_does_not_keep_steps_small(schedule, amsgrad):
    """Adam as torch has it there, and AMSGrad where the rate stays."""
    _, parameters = potential()
    mine = parameters.map(torch.clone)
    theirs = [torch.nn.Parameter(tensor.clone()) for tensor in parameters.of_network]
    (one,) = optimisers_of(mine, settings(schedule=schedule))
    other = torch.optim.Adam(theirs, lr=settings().learning_rate, amsgrad=amsgrad)
    for step in range(200):
        slopes = [torch.full_like(tensor, 1e3 if not step else 1e-3) for tensor in theirs]
        one.step([slope.detach() for slope in slopes])
        for parameter, slope in zip(theirs, slopes, strict=True):
            parameter.grad = slope
        other.step()
    for a, b in zip(mine.of_network, theirs, strict=True):
        assert torch.allclose(a, b.detach(), atol=1e-6)


def test_a_gradient_out_of_all_proportion_moves_little():
    """By numpy; without the bound the parameters move by more than two rates after it. A tensor of zeros stays as it is."""
    rng, moves = np.random.default_rng(0), {}
    slopes = [rng.normal(size=(2, 4)) * (1e4 if step == 2000 else 1.0) for step in range(2020)]
    for bounded in (False, True):
        by_hand, first, second, path = np.zeros((2, 4)), np.zeros((2, 4)), np.zeros((2, 4)), []
        tensors = [torch.zeros((2, 4), dtype=torch.float64), torch.zeros(2, dtype=torch.float64)]
        one = Adam([], tensors, 0.1, 0.0, bounded=bounded)
        for step, slope in enumerate(slopes, 1):
            if bounded and step > 10:
                usual = np.sqrt(second.sum() / (1 - 0.999 ** (step - 1)))
                slope = slope * min(1.0, 3 * usual / np.linalg.norm(slope))
            first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
            by_hand = by_hand - 0.1 * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            one.step([torch.from_numpy(slopes[step - 1]), torch.zeros(2, dtype=torch.float64)])
            path.append(by_hand)
        np.testing.assert_allclose(tensors[0].numpy(), by_hand, rtol=1e-9)
        assert not tensors[1].any()
        moves[bounded] = np.abs(path[-1] - path[1999]).max()
    assert moves[False] > 0.2 and moves[True] < 0.5 * moves[False]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(("held", "factor"), [(True, 1000.0), (True, 4.0), (False, 4.0)])
def test_a_training_that_goes_wrong_keeps_its_best_epoch_and_says_so(monkeypatch, schedule, held, factor):
    taken, calls = training.step, []

    def thrown_off(potential, parameters, *others):
        loss = taken(potential, parameters, *others)
        calls.append(float(loss))
        if len(calls) == 5 * 7:
            torch._foreach_mul_(parameters.of_network, factor)
        return loss

    monkeypatch.setattr(training, "step", thrown_off)
    validation = toy_data(6, seed=3) if held else DATA.subset([])
    model = GaussianMomentModel(
        settings(epochs=12, batch_size=8, schedule=schedule, learning_rate=0.01), ("energy", "forces")
    )
    model.fit(DATA, validation, np.random.default_rng(0))
    assert len(calls) == 5 * 12
    by_epoch = np.array(calls).reshape(12, 5).sum(axis=1)
    best = int(np.nanargmin(by_epoch))  # The epoch before, whose weights that loss is of.
    assert not by_epoch[-1] < 10 * np.nanmin(by_epoch) and model.hyperparameters["epochs"] == best < 8
    assert model.warnings[-1].startswith(f"the training of gmnn went wrong after epoch {best}, whose weights were kept")
    monkeypatch.setattr(training, "step", taken)
    assert np.isfinite(model.predict(DATA.structures, frozenset({"energy"})).mean["energy"]).all()
