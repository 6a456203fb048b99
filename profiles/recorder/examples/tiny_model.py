"""Runs a tiny random model of transformers that has an indexer: prefill at once or in chunks, then steps of decode.

It needs no checkpoint and no GPU, and shows how a recording is made; see docs/recording.md.
"""

import argparse

import torch
import transformers

MODELS = {
    # config of transformers, indexer heads, head dimension, dtype
    "deepseek-v3.2": ("DeepseekV32Config", 16, 128, torch.float32),
    "glm-5": ("GlmMoeDsaConfig", 8, 64, torch.bfloat16),
    "mistral-large-4": ("MistralLarge4TextConfig", 8, 64, torch.bfloat16),
    "hy4-preview": ("HYV4Config", 16, 128, torch.float32),
    "a.x-k2": ("AXK2Config", 16, 128, torch.float32),
    "dots3-note": ("Dots3NoteTextConfig", 8, 64, torch.float32),
    "deepseek-v4": ("DeepseekV4Config", 16, 128, torch.float32),
    "glm-5.3-flash": ("Glm5NextTextConfig", 16, 128, torch.float32),
}
# What a model's configuration has in place of, or beside, what all have below.
OWN = {
    "deepseek-v4": dict(layer_types=["compressed_sparse_attention"] * 2, index_topk=32, num_key_value_heads=1,
                        head_dim=64, o_groups=2, o_lora_rank=32, sliding_window=32, num_hash_layers=0, hc_mult=2),
    "glm-5.3-flash": dict(layer_types=["indexed_attention"] * 2, index_kpool=4, qk_rope_head_dim=0, hc_mult=2),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--tokens", type=int, default=512, help="tokens of the prompt (default: 512)")
    parser.add_argument("--chunk", type=int, help="tokens of a chunk of prefill (default: all)")
    parser.add_argument("--steps", type=int, default=16, help="steps of decode (default: 16)")
    arguments = parser.parse_args()

    torch.manual_seed(4)
    config, heads, head_dim, dtype = MODELS[arguments.model]
    config = getattr(transformers, config)(**{**dict(
        vocab_size=512, hidden_size=128, intermediate_size=256, moe_intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2, n_group=1,
        topk_group=1, kv_lora_rank=32, q_lora_rank=64, qk_rope_head_dim=16, qk_nope_head_dim=32, v_head_dim=32,
        first_k_dense_replace=1, max_position_embeddings=8192, index_n_heads=heads, index_head_dim=head_dim,
        index_topk=128, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    ), **OWN.get(arguments.model, {})})
    model = transformers.AutoModel.from_config(config).to(dtype).eval()
    tokens = torch.randint(0, config.vocab_size, (1, arguments.tokens + arguments.steps))
    prompt, steps = tokens[:, :arguments.tokens], tokens[:, arguments.tokens:]
    with torch.no_grad():
        cache = transformers.DynamicCache(config=config)
        for part in [*prompt.split(arguments.chunk or arguments.tokens, dim=1), *steps.split(1, dim=1)]:
            model(part, past_key_values=cache, use_cache=True)
    print("{}: {} tokens in the cache".format(arguments.model, cache.get_seq_length()))


if __name__ == "__main__":
    main()
