"""The playground's policy: a 20-token tokenizer and a Qwen3 model of 0.3M parameters, made without any download."""

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM


SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")
VOCABULARY = (*SPECIAL_TOKENS, *"0123456789+-=:?#")  # a token's id is its position: 20 tokens
PAD_TOKEN_ID, EOS_TOKEN_ID, BOS_TOKEN_ID, UNK_TOKEN_ID = range(len(SPECIAL_TOKENS))
MAX_LENGTH = 512  # tokens of prompt and completion


def build_tokenizer() -> PreTrainedTokenizerFast:
    r"""
    Build the tokenizer of the playground: one token per character, nothing added, nothing merged.

    Encoding adds neither BOS nor EOS, and decoding inserts no spaces, so that text over the 16 characters of the task
    survives a round trip exactly. Any other character becomes `<unk>`. Padding is on the left, as generation needs it.

    Returns:
        [`~transformers.PreTrainedTokenizerFast`]:
            The tokenizer, of `len(VOCABULARY)` = 20 tokens.
    """
    # BPE without merges is a character-level model: it needs no pre-tokenizer that could touch the text.
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(VOCABULARY)}, merges=[], unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()  # joins without the spaces that are the default
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
    )


def build_policy(
    seed: int = 0,
    hidden_size: int = 96,
    num_hidden_layers: int = 3,
    num_attention_heads: int = 4,
    num_key_value_heads: int = 2,
    head_dim: int = 24,
    intermediate_size: int = 256,
    max_length: int = MAX_LENGTH,
) -> Qwen3ForCausalLM:
    r"""
    Build the untrained policy: a Qwen3 model with tied embeddings, in float32, of about 0.3M parameters by default.

    The weights depend on `seed` and the sizes alone; the global random state is left as it was.

    Args:
        seed (`int`, *optional*, defaults to `0`):
            Seed of the initial weights.
        hidden_size (`int`, *optional*, defaults to `96`):
            Width of the residual stream.
        num_hidden_layers (`int`, *optional*, defaults to `3`):
            Number of layers.
        num_attention_heads (`int`, *optional*, defaults to `4`):
            Number of query heads.
        num_key_value_heads (`int`, *optional*, defaults to `2`):
            Number of key and value heads; must divide `num_attention_heads`.
        head_dim (`int`, *optional*, defaults to `24`):
            Width of a head; must be even.
        intermediate_size (`int`, *optional*, defaults to `256`):
            Width of the feed-forward layer.
        max_length (`int`, *optional*, defaults to `512`):
            Most tokens of prompt and completion together.

    Returns:
        [`~transformers.Qwen3ForCausalLM`]:
            The model, on the CPU, in evaluation mode as `from_pretrained` would give it.
    """
    config = Qwen3Config(
        vocab_size=len(VOCABULARY),
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads,
        head_dim=head_dim,
        intermediate_size=intermediate_size,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        initializer_range=hidden_size**-0.5,  # the usual 0.02 is meant for wide models: here it halves what is learnt
        pad_token_id=PAD_TOKEN_ID,
        eos_token_id=EOS_TOKEN_ID,
        bos_token_id=BOS_TOKEN_ID,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):  # the weights are drawn on the CPU
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=EOS_TOKEN_ID, pad_token_id=PAD_TOKEN_ID, bos_token_id=BOS_TOKEN_ID
    )
    return model.eval()
