"""Small random HuBERT checkpoints, as S3PRL's hubert_local and hf_hubert_custom read them."""

import dataclasses

import torch

SIZES = {"label_rate": 50, "encoder_layers": 2, "encoder_embed_dim": 64, "encoder_ffn_embed_dim": 128,
         "encoder_attention_heads": 4, "final_dim": 16, "conv_pos": 16, "conv_pos_groups": 4,
         "conv_feature_layers": "[(32,10,5)] + [(32,3,2)] * 4 + [(32,2,2)] * 2"}


def write_hubert_local(path, seed=0):
    """A checkpoint for `-u hubert_local -k path`: 2 layers (3 hidden states), 64 dimensions, 320 samples a frame."""
    from s3prl_dd.plugin.compat import mend

    mend()
    from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig

    config, task = HubertConfig(**SIZES), HubertPretrainingConfig()
    symbols = [[str(index) for index in range(8)]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HubertModel(config, task, symbols)
    torch.save({"task_cfg": dataclasses.asdict(task), "model_cfg": dataclasses.asdict(config),
                "model_weight": model.state_dict(), "dictionaries_symbols": symbols}, path)


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
