"""The neural network against numpy by hand, torch's own layers and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from quarry.config.targets import TARGETS
from quarry.errors import QuarryError
from quarry.models import network as networks
from quarry.models.adam import Adam
from quarry.models.inputs import CLIP, Inputs
from quarry.models.mlp import MultilayerPerceptron
from quarry.models.network import initial_network, train_network
from quarry.models.network_features import gradient_factors, gradient_features, last_layer_features
from quarry.models.registry import load_regression, make_regression
from quarry.models.regression import Committee, Embeds, RegressionData
from quarry.structures import Structure, StructureSet
from support.networks import by_hand, classes, dimers, numbers, settings, trained


class TestTraining:
    def test_it_learns(self):
        data, unseen = numbers(300), numbers(100, seed=5)
        model = trained(data, hidden=[32, 32], epochs=50, learning_rate=0.01)
        found = model.predict(unseen.structures, unseen.features)
        assert np.sqrt(np.mean((found.mean - unseen.targets) ** 2)) < 0.4 * np.std(unseen.targets)
        assert found.std is None and found.probabilities is None

    def test_training_is_that_of_torch(self):
        """One batch an epoch: the same start, layers, loss and steps by torch's own."""
        conf = settings(epochs=5, batch_size=100, hidden=[5], activation="tanh", weight_decay=0.3, learning_rate=0.01)
        x, y = (
            np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32),
            np.linspace(-1, 1, 20, dtype=np.float32),
        )
        found = train_network(x, y, x[:0], y[:0], 1, conf, np.random.default_rng(3)).network
        start = initial_network([3, 5, 1], "tanh", np.random.default_rng(3))
        model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
        with torch.no_grad():
            for layer, weights, biases in zip((model[0], model[2]), start.weights, start.biases, strict=True):
                layer.weight.copy_(weights.T)
                layer.bias.copy_(biases)
        weights, biases = [model[0].weight, model[2].weight], [model[0].bias, model[2].bias]
        groups = [{"params": weights, "weight_decay": 0.3}, {"params": biases, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=0.01)
        for _ in range(5):
            optimiser.zero_grad()
            torch.nn.functional.mse_loss(model(torch.from_numpy(x))[:, 0], torch.from_numpy(y)).backward()
            optimiser.step()
        for layer, weights, biases in zip((model[0], model[2]), found.weights, found.biases, strict=True):
            assert np.allclose(layer.weight.detach().T, weights, atol=1e-6)
            assert np.allclose(layer.bias.detach(), biases, atol=1e-6)

    def test_the_best_epoch_is_kept_and_training_stops(self, monkeypatch):
        """Held-out targets opposite to the training targets: the held-out loss rises from the start."""
        x = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
        y = x[:, 0] + x[:, 1]
        steps = []
        step = Adam.step
        monkeypatch.setattr(Adam, "step", lambda self, gradients: (steps.append(1), step(self, gradients))[1])
        conf = settings(epochs=500, patience=7, batch_size=30, learning_rate=0.01)
        found = train_network(x, y, x, -y, 1, conf, np.random.default_rng(1))
        assert len(steps) == found.epoch + 7
        with torch.no_grad():
            outputs = found.network.output(found.network.first(torch.from_numpy(x)))[:, 0].numpy()
        assert found.held_out_loss == pytest.approx(float(np.mean((outputs + y) ** 2)), rel=1e-6)

    def test_the_held_out_share_is_not_learnt(self, monkeypatch):
        seen = {}

        def spy(inputs, targets, held_inputs, held_targets, *rest):
            seen.update(train=targets, held=held_targets)
            return train_network(inputs, targets, held_inputs, held_targets, *rest)

        monkeypatch.setattr("quarry.models.mlp.train_network", spy)
        data = numbers(50)
        model = trained(data, held_out=0.2)
        values = np.concatenate([seen["train"], seen["held"]])
        assert len(seen["held"]) == 10
        assert np.allclose(np.sort(values * model.scale + data.targets.mean()), np.sort(data.targets), atol=1e-6)

    def test_given_validation_data_take_the_place_of_the_held_out_share(self, monkeypatch):
        seen = {}
        monkeypatch.setattr(
            "quarry.models.mlp.train_network",
            lambda *a: (seen.update(train=len(a[1]), held=len(a[3])), train_network(*a))[1],
        )
        model = MultilayerPerceptron(settings(), "homo")
        model.fit(numbers(40), numbers(15, seed=2), np.random.default_rng(0))
        assert seen == {"train": 40, "held": 15}

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_few_and_constant_targets(self, count):
        data = numbers(count)
        constant = RegressionData(data.structures, data.features, np.full(count, -7.5))
        found = trained(constant).predict(data.structures, data.features).mean
        assert np.all(np.isfinite(found)) and np.all(np.abs(found + 7.5) < 5)

    def test_energies_of_other_compositions(self):
        """The sum over the elements is taken off: what is left to learn is small."""
        mixed = [Structure.create([1] * n + [8] * (n % 3 + 1), np.eye(n + n % 3 + 1, 3) * n) for n in range(2, 42)]
        structures = StructureSet.from_structures(mixed)
        features = np.random.default_rng(0).normal(size=(40, 3))
        targets = np.array([-13.6 * n - 2040.0 * (n % 3 + 1) for n in range(2, 42)]) + 0.1 * features[:, 0]
        model = MultilayerPerceptron(settings(), "energy")
        model.fit(RegressionData(structures, features, targets), None, np.random.default_rng(0))
        assert np.std(targets) > 1000 and model.scale < 0.2
        assert model.predict(structures, features).mean == pytest.approx(targets, abs=0.5)

    def test_divergence_is_one_line(self):
        with pytest.raises(QuarryError, match=r"^model\.learning_rate: .*lower the learning rate$"):
            trained(numbers(), learning_rate=1e14, activation="relu")


class TestBadInput:
    @pytest.mark.parametrize("what", ["features", "targets"])
    def test_what_is_not_finite_is_one_line(self, what):
        data = numbers()
        getattr(data, what)[7] = np.nan
        with pytest.raises(QuarryError, match=f"structure {data.structures.ids[7]} is not a finite number"):
            trained(data)

    def test_at_prediction(self):
        data = numbers()
        model = trained(data)
        with pytest.raises(QuarryError, match="trained on 4 features, but these structures have 3"):
            model.predict(data.structures, data.features[:, :3])
        data.features[9, 0] = np.inf
        with pytest.raises(QuarryError, match=f"a feature of structure {data.structures.ids[9]} is not a finite"):
            model.predict(data.structures, data.features)

    def test_no_label_is_one_line(self):
        with pytest.raises(QuarryError, match="no label to train on"):
            trained(numbers(10).subset([]))

    def test_no_gpu_is_one_line(self):
        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
        with pytest.raises(QuarryError, match=r"^model\.device: cuda, but torch finds no GPU"):
            trained(numbers(), device="cuda")

    def test_no_such_features_is_one_line(self):
        data = numbers()
        with pytest.raises(QuarryError, match="kind mlp has no kernel features"):
            trained(data).embed(data.structures, data.features, "kernel", np.random.default_rng(0))


class TestPrediction:
    def test_by_hand(self, tmp_path):
        data = numbers()
        model = trained(data)
        model.save(tmp_path / "m.h5")
        expected = data.targets.mean() + data.targets.std() * by_hand(tmp_path / "m.h5", data.features)[:, 0]
        assert model.predict(data.structures, data.features).mean == pytest.approx(expected, abs=1e-5)

    def test_blocks_change_nothing(self, monkeypatch):
        data = numbers()
        model = trained(data, uncertainty="mc_dropout", dropout=0.4, passes=5)
        whole = model.predict(data.structures, data.features)
        monkeypatch.setattr(networks, "BLOCK_ELEMENTS", 7 * 8)
        parts = model.predict(data.structures, data.features)
        assert parts.mean == pytest.approx(whole.mean, abs=1e-5) and parts.std == pytest.approx(whole.std, abs=1e-5)

    def test_constant_features_are_left_out(self):
        data = numbers()
        model = trained(data)
        other = data.features.copy()
        other[:, 3] = 1e6
        assert np.array_equal(
            model.predict(data.structures, other).mean, model.predict(data.structures, data.features).mean
        )

    @given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(-100, 100))
    @hypothesis_settings(max_examples=15, deadline=None)
    def test_inputs_do_not_depend_on_scale_and_origin_of_the_features(self, seed, scale, shift):
        features = np.random.default_rng(seed).normal(size=(20, 3))
        moved = features * scale + shift * scale
        assert np.allclose(Inputs.of(features)(features), Inputs.of(moved)(moved), atol=1e-4)

    def test_a_far_feature_is_clipped(self):
        features = np.random.default_rng(0).normal(size=(20, 2))
        assert np.array_equal(Inputs.of(features)(np.array([[1e6, -1e6]])), [[CLIP, -CLIP]])


class TestFile:
    @pytest.mark.parametrize("changes", [{}, {"uncertainty": "mc_dropout", "passes": 3}, {"activation": "relu"}])
    @pytest.mark.parametrize("make", [numbers, classes])
    def test_round_trip_and_bytes(self, tmp_path, changes, make):
        data = make(30)
        model = trained(data, **changes)
        model.save(tmp_path / "a.h5")
        trained(data, **changes).save(tmp_path / "b.h5")
        loaded = load_regression(tmp_path / "a.h5", "mlp")
        loaded.save(tmp_path / "c.h5")
        content = (tmp_path / "a.h5").read_bytes()
        assert (tmp_path / "b.h5").read_bytes() == content == (tmp_path / "c.h5").read_bytes()
        trained(data, seed=2, **changes).save(tmp_path / "d.h5")
        assert (tmp_path / "d.h5").read_bytes() != content, "another seed, another model"
        for field in ("mean", "std", "probabilities", "votes"):
            found, expected = (getattr(m.predict(data.structures, data.features), field) for m in (loaded, model))
            assert (found is None and expected is None) or np.array_equal(found, expected), field
        assert loaded.hyperparameters == model.hyperparameters

    def test_the_registry_makes_it(self):
        model = make_regression(settings(), TARGETS["homo"])
        assert isinstance(model, MultilayerPerceptron)
        assert isinstance(model, Embeds) and isinstance(model, Committee)


def network_and_inputs(outputs=1, activation="silu"):
    rng = np.random.default_rng(4)
    network = initial_network([3, 7, 5, outputs], activation, rng)
    return network, torch.from_numpy(rng.normal(size=(6, 3)).astype(np.float32))


class TestFeatureMaps:
    @pytest.mark.parametrize("activation", ["silu", "relu", "tanh"])
    @pytest.mark.parametrize("outputs", [1, 4])
    def test_the_gradient_is_that_of_autograd(self, outputs, activation):
        """One structure after the other; with classes the cross-entropy of the predicted class."""
        network, x = network_and_inputs(outputs, activation)
        for parameter in network.parameters:
            parameter.requires_grad_(True)
        factors = gradient_factors(network, x)
        for row in range(len(x)):
            output = network.output(network.first(x[row : row + 1]))
            value = output[0, 0]
            if outputs > 1:
                value = torch.nn.functional.cross_entropy(output, output.argmax(dim=1))
            expected = torch.autograd.grad(value, network.parameters)
            for layer, (a, d) in enumerate(factors):
                found = torch.outer(a[row], d[row])
                assert torch.allclose(found[:-1], expected[layer], atol=1e-6)
                assert torch.allclose(found[-1], expected[len(factors) + layer], atol=1e-6)

    def test_inner_products_of_projections_are_those_of_the_gradients(self):
        """The mean over many projections; one alone is within its standard error."""
        network, x = network_and_inputs()
        full = torch.cat([torch.einsum("na,nb->nab", a, d).flatten(1) for a, d in gradient_factors(network, x)], dim=1)
        assert full.shape[1] == 4 * 7 + 8 * 5 + 6 * 1
        exact = (full @ full.T).numpy()
        kernels = []
        for seed in range(40):
            features = gradient_features(network, x, seed)
            assert features.shape == (6, 512)
            kernels.append((features @ features.T).numpy())
        error = np.std(kernels, axis=0) / np.sqrt(40)
        assert np.all(np.abs(np.mean(kernels, axis=0) - exact) < 4.5 * error)
        assert np.max(error) < 0.05 * np.max(exact), "the test could not fail otherwise"

    def test_the_last_layer_is_its_gradient(self):
        network, x = network_and_inputs()
        a, d = gradient_factors(network, x)[-1]
        assert torch.equal(last_layer_features(network, x), a) and torch.all(d == 1)

    @pytest.mark.parametrize("kind", ["last_layer", "gradient"])
    def test_pool_and_training_set_are_mapped_alike(self, kind, monkeypatch):
        data = numbers()
        model = trained(data)
        whole = model.embed(data.structures, data.features, kind, np.random.default_rng(3))
        assert whole.shape == (60, {"last_layer": 7, "gradient": 512}[kind]) and whole.dtype == np.float32
        monkeypatch.setattr(networks, "BLOCK_ELEMENTS", 7 * 8)
        part = model.embed(dimers(60).subset(range(20, 40)), data.features[20:40], kind, np.random.default_rng(3))
        assert np.allclose(part, whole[20:40], atol=1e-5)
