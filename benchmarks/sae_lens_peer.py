"""The TopK training autoencoder of SAELens behind the few calls that the benchmark makes."""

from __future__ import annotations

from typing import Any

import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig, __version__
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

from glossogenesis.sae.autoencoder import SparseAutoencoder
from sae_programs import Setting

VERSION = __version__


class SaeLensTrainer:
    """Trains by the step of SAELens' own trainer, which clips gradients to a norm of 1."""

    def __init__(self, setting: Setting, *, sparse_activations: bool = False) -> None:
        torch.manual_seed(0)
        self.sae = TopKTrainingSAE(
            TopKTrainingSAEConfig(
                d_in=setting.d_model,
                d_sae=setting.n_latents,
                k=setting.k,
                device=setting.device,
                use_sparse_activations=sparse_activations,
            )
        )
        config = SAETrainerConfig(
            total_training_samples=setting.total_steps * setting.batch_size,
            train_batch_size_samples=setting.batch_size,
            lr=setting.learning_rate,
            lr_end=setting.learning_rate,
            lr_warm_up_steps=setting.warmup_steps,
            lr_decay_steps=setting.decay_steps,
            device=setting.device,
            autocast=setting.precision == "bfloat16",
            logger=LoggingConfig(log_to_wandb=False),
        )
        no_batches: Any = iter(())
        self._trainer = SAETrainer(cfg=config, sae=self.sae, data_provider=no_batches)

    @torch.no_grad()
    def start_from(self, sae: SparseAutoencoder) -> None:
        """Take the weights of one of this library's autoencoders."""
        self.sae.W_enc.copy_(sae.w_enc.t())
        self.sae.W_dec.copy_(sae.w_dec)
        self.sae.b_enc.copy_(sae.b_enc)
        self.sae.b_dec.copy_(sae.b_dec)

    def step(self, batch: Tensor) -> None:
        """Take one step on a batch [row, d_model]."""
        self._trainer.step(batch)
        self._trainer.n_training_steps += 1

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the reconstruction [row, d_model] as at inference."""
        self.sae.eval()
        reconstruction: Tensor = self.sae(x)
        return reconstruction
