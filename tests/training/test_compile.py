"""`compile`: parts of a model are called by torch.compile, and nothing else changes."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from training.model import compile_parts


def test_compiled_parts_say_what_plain_ones_say() -> None:
    """Traced, without the kernels that inductor builds for minutes on a CPU; those were tried by hand."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, num_hidden_layers=1, initializer_range=0.3, **shape))
    ids, names, graphs = torch.arange(12)[None], list(model.state_dict()), []

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(ids, labels=ids).loss.backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    plain = gradients()
    compile_parts(model, backend)  # type: ignore[arg-type]
    for one, other in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(one, other)
    assert len(graphs) >= 2  # a norm, a feed-forward part
    assert list(model.state_dict()) == names
