"""A network that learns from examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from neoteny.agents import checkpoint
from neoteny.agents.attached import Attached, Reg
from neoteny.agents.checkpoint import CheckpointError
from neoteny.agents.supervised.nets import Net
from neoteny.configs import ConfigError, raised
from neoteny.plasticity.heads import output_heads
from neoteny.plasticity.layers import layers_of

#: Examples in a pass that nothing is learned from.
AT_ONCE = 1024


class Examples(NamedTuple):
    """Examples of a task.

    Attributes:
        inputs: (n, …).
        targets: classes, (n) of int64; or numbers, (n, outputs), each of variance 1 over a task's examples.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, indices: Tensor, size: int) -> Iterator[Examples]:
        """Those at ``indices``, so many at a time."""
        for some in indices.split(size):
            yield Examples(self.inputs[some], self.targets[some])

    def losses(self, outputs: Tensor) -> Tensor:
        """The loss of each, (n): the cross-entropy of classes, the mean square error of numbers."""
        if self.targets.is_floating_point():
            return (outputs - self.targets).square().mean(1)
        return functional.cross_entropy(outputs, self.targets, reduction="none")

    def scores(self, outputs: Tensor) -> Tensor:
        """What of each the mean is the accuracy, of classes, or R² = 1 − MSE/variance, of numbers; (n)."""
        if self.targets.is_floating_point():
            return 1 - (outputs.detach() - self.targets).square().mean(1)
        return (outputs.detach().argmax(1) == self.targets).float()


class Seen(NamedTuple):
    """What a network said of examples: the score and the loss of each, (n)."""

    scores: Tensor
    losses: Tensor


class Learner(Attached):
    """A network, its optimizer and its methods.

    Args:
        net: its settings.
        shape: of an example.
        outputs: the numbers that the network says of one.
        reg: the method; None for none.
        seed: of the initial weights.
        device: of the network.

    Attributes:
        num_timesteps: examples learned from, counted as often as that was done.
        updates: of the weights.
        examples: of the task that it learns, for whoever looks at the network; none while it learns nothing.
        loss: the mean of the last pass.

    Raises:
        ConfigError, ValueError: there is no such network for such examples.
    """

    def __init__(
        self,
        net: Net,
        shape: tuple[int, ...],
        outputs: int,
        reg: Reg = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ):
        self.net, self.reg, self.seed, self.device = net, reg, seed, torch.device(device)
        torch.manual_seed(seed)
        self.policy: nn.Module = net.make(shape, outputs).to(self.device)
        built = net.optimizer.policy_kwargs()
        self.optimizer: torch.optim.Optimizer = built["optimizer_class"](
            self.policy.parameters(), lr=net.learning_rate, **built["optimizer_kwargs"]
        )
        self.num_timesteps = self.updates = 0
        self.loss = 0.0
        self.examples: Examples | None = None
        self.methods, self._handles = {}, []
        self._prepare_optimizers()
        self._attach_methods()

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"": self.optimizer}

    def role(self, name: str) -> str:
        """It is one network."""
        return "network"

    def heads(self) -> set[str]:
        """The output layers: as its settings say, or as its pass shows them, see :mod:`neoteny.plasticity.heads`."""
        if self.net.head:
            return {self.net.head}
        layers = {layer.module: layer.owner for layer in layers_of(self.policy) if not layer.is_norm}
        return set(output_heads(self.policy, layers).names)

    def _heads_of(self, optimizer: torch.optim.Optimizer) -> set[str] | None:
        """Where the settings do not say it, methods find them, and say where it is doubtful."""
        return {self.net.head} if self.net.head else None

    def _logged(self) -> Mapping[str, float]:
        return {"loss": self.loss}

    def _place(self) -> str:
        return f"after {self.num_timesteps} examples and {self.updates} updates"

    def on_switch(self) -> None:
        """Another task begins."""
        for method in self.methods.values():
            method.on_switch()

    def try_out(self, examples: Examples, sizes: Iterable[int], outputs: int) -> None:
        """Whether passes in training mode go through with minibatches of these sizes. It is of no use then.

        Args:
            examples: of a task.
            sizes: of minibatches.
            outputs: numbers that the network is to say of an example.

        Raises:
            ConfigError: they do not, or what the network says has another shape.
        """
        self.policy.train()
        for size in sizes:
            (batch,) = examples.batches(torch.arange(size, device=self.device), size)
            try:
                said = self.policy(batch.inputs)
                if not isinstance(said, Tensor) or said.shape != (size, outputs):
                    found = tuple(said.shape) if isinstance(said, Tensor) else type(said).__name__
                    raise ConfigError(f"net: of {size} examples {(size, outputs)} numbers are needed, it gives {found}")
                batch.losses(said).mean().backward()
            except ConfigError:
                raise
            except Exception as error:
                raise ConfigError(
                    f"net: it cannot learn from a minibatch of {size} of the {len(examples):,} examples "
                    f"(--net.batch_size {self.net.batch_size}): {raised(error)}"
                ) from error

    def learn(self, examples: Examples, order: Tensor) -> Seen:
        """Learn once from each example, minibatch after minibatch; the last may be smaller.

        Args:
            examples: of the task.
            order: their indices, (n).

        Returns:
            What the network said of each, in this order, as it was about to learn from it.
        """
        self.policy.train()
        seen: list[Seen] = []
        for batch in examples.batches(order.to(self.device), self.net.batch_size):
            self.optimizer.zero_grad()
            outputs = self.policy(batch.inputs)
            losses = batch.losses(outputs)
            losses.mean().backward()
            self.optimizer.step()
            seen.append(Seen(batch.scores(outputs), losses.detach()))
            self.updates += 1
        self.num_timesteps += len(order)
        found = Seen(*map(torch.cat, zip(*seen, strict=True)))
        self.loss = float(found.losses.mean())
        return found

    def look(self, examples: Examples) -> Seen:
        """What the network says of examples, in evaluation mode; nothing is learned."""
        everything = torch.arange(len(examples), device=self.device)
        with torch.no_grad(), self._evaluating():
            seen = []
            for batch in examples.batches(everything, AT_ONCE):
                outputs = self.policy(batch.inputs)
                seen.append(Seen(batch.scores(outputs), batch.losses(outputs)))
        return Seen(*map(torch.cat, zip(*seen, strict=True)))

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        self.policy.eval()
        try:
            yield
        finally:
            self.policy.train()

    def save(self, path: str | Path, replay: bool = False) -> None:
        """Save all that learning depends on to one ``.safetensors`` file, for :meth:`restore`.

        Args:
            path: the file.
            replay: agents with a replay buffer save that too; here there is none.
        """
        record: dict[str, Any] = {
            "network": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "methods": {name: method.state_dict() for name, method in self.methods.items()},
            "counts": {"num_timesteps": self.num_timesteps, "updates": self.updates},
        }
        checkpoint.write(Path(path), record)

    def restore(self, path: str | Path) -> None:
        """Be as the one that was saved, which had the same settings.

        Raises:
            CheckpointError: the file is damaged, or of a network with other settings.
        """
        record = checkpoint.read(Path(path))
        try:
            self.policy.load_state_dict(record["network"])
            self.optimizer.load_state_dict(record["optimizer"])
            for name, method in self.methods.items():
                method.load_state_dict(record["methods"][name])
            self.num_timesteps, self.updates = (record["counts"][key] for key in ("num_timesteps", "updates"))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: {' '.join(str(error).split())}") from error
