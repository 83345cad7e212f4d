"""Parameters, their gradients and Adam's moments as views of one buffer each, so that an update is a few operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from neoteny.agents.learners.lanes import UnreadableError

#: Groups begin at multiples of so many entries.
ALIGNED = 16
#: Settings of Adam with which it is not the update that is computed here.
OTHER = ("amsgrad", "maximize", "capturable", "differentiable")

Groups = Sequence[Sequence[nn.Parameter]]


def buffer_like(groups: Groups) -> tuple[Tensor, list[Tensor]]:
    """A buffer of zeros, and a view of it per group, (parameters, *shape): those of a group have the same shape."""
    sizes = [len(group) * group[0].numel() for group in groups]
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + -(-size // ALIGNED) * ALIGNED)
    buffer = groups[0][0].new_zeros(starts[-1], requires_grad=False)
    shapes = [(len(group), *group[0].shape) for group in groups]
    views = [buffer[at : at + size].view(shape) for at, size, shape in zip(starts, sizes, shapes, strict=False)]
    return buffer, views


def unfit(groups: Groups, optimizer: Optimizer) -> str:
    """Why these parameters cannot be kept in buffers; empty if they can."""
    held = [p for group in optimizer.param_groups for p in group["params"]]
    ours = [id(p) for group in groups for p in group]
    if {*map(id, held)} != {*ours} or len(held) != len(ours):
        return "the optimizer trains other weights than those of the layers, or layers share some"
    for p in held:
        if not p.requires_grad:
            return "some weights are frozen"
        if p._backward_hooks or p._post_accumulate_grad_hooks:
            return "a method or a hook acts in the backward pass"
    return ""


def check(groups: Groups, optimizer: Optimizer) -> None:
    """Raises:
    UnreadableError: see :func:`unfit`.
    """
    if why := unfit(groups, optimizer):
        raise UnreadableError(why)


class Gathered:
    """Parameters moved into a buffer, see :func:`buffer_like`. They stay the same objects with the same values.

    Attributes:
        buffer: all of them.
        values: a view per group, (parameters, *shape).
    """

    @torch.no_grad()
    def __init__(self, groups: Groups):
        self.buffer, self.values = buffer_like(groups)
        self.parameters = [p for group in groups for p in group]
        for parameter, place in zip(self.parameters, self.rows(self.values), strict=True):
            place.copy_(parameter)
            parameter.data = place
        self._places = [p.data_ptr() for p in self.parameters]

    @staticmethod
    def rows(views: list[Tensor]) -> list[Tensor]:
        """What belongs to each parameter."""
        return [row for view in views for row in view]

    def intact(self) -> bool:
        """Whether parameters are still where they were put."""
        return all(p.data_ptr() == place for p, place in zip(self.parameters, self._places, strict=True))


class Flat(Gathered):
    """All that an optimizer trains, in one buffer, with its gradients in another.

    ``optimizer.step()`` and its hooks work as ever. Adam runs over the buffers as a whole.

    Args:
        groups: the parameters. Those of a group lie next to each other.
        optimizer: trains exactly these.

    Attributes:
        gradient: all of them.
        gradients: a view per group, (parameters, *shape).

    Raises:
        UnreadableError: the optimizer trains others, some are frozen, or something acts in the backward pass.
    """

    def __init__(self, groups: Groups, optimizer: Optimizer):
        check(groups, optimizer)
        super().__init__(groups)
        self.optimizer = optimizer
        self._groups = groups
        self.gradient, self.gradients = buffer_like(groups)
        self._grads = self.rows(self.gradients)
        self._steps = torch.zeros(len(self.parameters), device=self.buffer.device)
        self._version = -1
        self._moments = {key: buffer_like(groups) for key in ("exp_avg", "exp_avg_sq")}
        rows = {"step": [*self._steps], **{key: self.rows(views) for key, (_, views) in self._moments.items()}}
        self._state = [dict(zip(rows, mine, strict=True)) for mine in zip(*rows.values(), strict=True)]
        self._step: Callable[[Optimizer], None] = Optimizer.profile_hook_step(self._adam)

    def intact(self) -> bool:
        """Whether parameters are still where they were put, and trained by the optimizer alone."""
        return super().intact() and not unfit(self._groups, self.optimizer)

    def clip_(self, largest: float) -> None:
        """Scale the gradient to a norm of at most ``largest``, as ``torch.nn.utils.clip_grad_norm_`` does."""
        norm = torch.linalg.vector_norm(self.gradient)
        self.gradient.mul_((largest / (norm + 1e-6)).clamp_(max=1.0))

    def step(self) -> None:
        """A step of the optimizer, with the gradients as they are, and its hooks."""
        for parameter, gradient in zip(self.parameters, self._grads, strict=True):
            if parameter.grad is not gradient:
                parameter.grad = gradient
        if self._is_adam():
            self._step(self.optimizer)
        else:
            self.optimizer.step()

    def _is_adam(self) -> bool:
        optimizer = self.optimizer
        (first, *others) = optimizer.param_groups
        scaled = hasattr(optimizer, "grad_scale") or "step" in vars(optimizer)
        plain = type(optimizer) is Adam and not others and not scaled
        return plain and not first.get("decoupled_weight_decay") and not any(first[name] for name in OTHER)

    @torch.no_grad()
    def _gather_gradients(self) -> bool:
        """Whether all parameters have a gradient; those that a hook has put in place are copied to ours."""
        moved = [(p, mine) for p, mine in zip(self.parameters, self._grads, strict=True) if p.grad is not mine]
        if any(p.grad is None for p, _ in moved):
            return False
        for parameter, gradient in moved:
            parameter.grad = gradient.copy_(parameter.grad)  # type: ignore[arg-type]
        return True

    def _adopt(self) -> bool:
        """Whether the moments are views of buffers, and all steps the same; make them so if they can be."""
        state = self.optimizer.state
        if state and len(state) != len(self.parameters):
            return False
        mine = zip(self.parameters, self._state, strict=True)
        if not all(p in state and all(state[p].get(key) is t for key, t in kept.items()) for p, kept in mine):
            self._move_state_()
        if self._version != self._steps._version:
            self._version = self._steps._version
            self._level = bool((self._steps == self._steps[0]).all())
        return self._level

    @torch.no_grad()
    def _move_state_(self) -> None:
        before = [
            {k: torch.as_tensor(v).clone() for k, v in self.optimizer.state.get(p, {}).items()} for p in self.parameters
        ]
        for parameter, kept, values in zip(self.parameters, self._state, before, strict=True):
            for key, place in kept.items():
                place.copy_(values[key]) if key in values else place.zero_()
            self.optimizer.state[parameter] = dict(kept)

    @torch.no_grad()
    def _adam(self, optimizer: Optimizer) -> None:
        """Adam's step, between the hooks: those before it may have put gradients or moments of their own in place."""
        if not (self._gather_gradients() and self._adopt()):
            Adam.step.__wrapped__(optimizer)  # type: ignore[attr-defined]  # torch's, which calls no hooks
            return
        group = optimizer.param_groups[0]
        self._steps += 1
        torch._fused_adam_(
            [self.buffer],
            [self.gradient],
            [self._moments["exp_avg"][0]],
            [self._moments["exp_avg_sq"][0]],
            [],
            [self._steps[0]],
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )
        self._version = self._steps._version
