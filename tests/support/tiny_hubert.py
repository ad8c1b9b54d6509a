"""Small random HuBERT checkpoints, as S3PRL's hubert_local and hf_hubert_custom read them."""

import torch


def write_hubert_local(path, seed=0):
    """A checkpoint for `-u hubert_local -k path`: 2 layers (3 hidden states), 64 dimensions, 320 samples a frame."""
    from s3prl_dd.plugin.bench import TINY, write_hubert

    write_hubert(path, TINY, seed)


def write_hf_hubert(folder, seed=0):
    """A folder for `-u hf_hubert_custom -k folder`, of the same shape."""
    from s3prl_dd.plugin.compat import mend

    mend()  # transformers imports torchaudio
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    config = HubertConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
                          conv_dim=[32] * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, vocab_size=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        HubertModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
