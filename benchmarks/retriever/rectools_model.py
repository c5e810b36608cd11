"""A sequence model of RecTools on a split: runs in RecTools' own environment, without this project.

It reads a Parquet file of user, item, time, asked_at, cluster and held_out [bool] and trains on the
rows that are not held out, until the NDCG@10 of the held-out rows (the last item of each user)
stops improving. With the weights of the best epoch it writes the ten best items for each user's
whole history; the file's metadata has that NDCG@10 and the seconds until that epoch was validated.

Settings change RecTools' defaults (two blocks, 256 dimensions, four heads, softmax over all items),
and add `model` (see `MODELS`), `seed`, `patience` and `cluster_features` (true: each item's cluster
is a categorical feature).
"""

import argparse
import copy
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from rectools.columns import Columns
from rectools.dataset import Dataset
from rectools.models import HSTUModel, SASRecModel
from rectools.models.nn.transformers.data_preparator import BatchElement, SequenceDataset
from rectools.models.nn.transformers.lightning import TransformerLightningModule
from rectools.models.nn.transformers.ligr import LiGRLayers
from rectools.models.nn.transformers.sasrec import SASRecDataPreparator
from torch.utils.data import DataLoader

TOP = 10


class WholeHistories(SASRecDataPreparator):
    """RecTools' preparation without its cut of each user to the latest items.

    Longer histories are cut into windows for training; the validation excludes all their items.
    """

    def _filter_train_interactions(self, train_interactions: pd.DataFrame) -> pd.DataFrame:
        count = train_interactions.groupby(Columns.User)[Columns.Item].transform("size")
        kept = train_interactions[count >= self.train_min_user_interactions]
        return kept.sort_values(Columns.Datetime, kind="stable")

    def get_dataloader_train(self) -> DataLoader:
        """Return batches of windows that have each transition of a user once."""
        whole = SequenceDataset.from_interactions(self.train_dataset.interactions.df)
        sessions, weights = [], []
        extras: dict[str, list[Any]] = {name: [] for name in whole.extras or {}}
        for user, session in enumerate(whole.sessions):
            for end in range(len(session), 1, -self.session_max_len):
                part = slice(max(0, end - self.session_max_len - 1), end)
                sessions.append(session[part])
                weights.append(whole.weights[user][part])
                for name, windows in extras.items():
                    windows.append(whole.extras[name][user][part])
        return DataLoader(
            SequenceDataset(sessions, weights, extras or None),
            collate_fn=self._collate_fn_train,
            batch_size=self.batch_size,
            shuffle=self.shuffle_train,
        )

    def _collate_fn_val(self, batch: list[BatchElement]) -> dict[str, torch.Tensor]:
        seen = [
            torch.tensor([item for item, weight in zip(*one[:2], strict=True) if weight == 0])
            for one in batch
        ]
        padded = torch.nn.utils.rnn.pad_sequence(seen, batch_first=True)
        return super()._collate_fn_val(batch) | {"seen": padded}


class RealPositions(TransformerLightningModule):
    """RecTools' softmax loss without the scores of padding, which it computes and ignores."""

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the mean loss over the positions that have a next item."""
        items = self.torch_model.item_model.get_all_embeddings()
        sessions = self.torch_model.encode_sessions(batch, items)
        real = batch["y"] != 0
        scores = self.torch_model.similarity_module(sessions[real], items)
        return torch.nn.functional.cross_entropy(scores, batch["y"][real])


class BestEpoch(Callback):
    """Keeps the weights of the epoch with the best NDCG@10 and stops `patience` epochs later."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.gains: list[float] = []
        self.best, self.since = -1.0, 0
        self.began, self.seconds = time.monotonic(), 0.0
        self.weights: dict[str, Any] = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the gains of the last epoch."""
        self.gains = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: dict[str, torch.Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Rank the held-out item of each user among the items outside the history."""
        users = torch.arange(len(batch["y"]))
        logits = outputs["logits"].reshape(len(users), -1).float().clone()
        target = batch["y"][:, 0]
        score = logits[users, target][:, None]
        logits.scatter_(1, batch["seen"], -torch.inf)  # item 0 pads, and is never an answer
        logits[:, 0] = -torch.inf
        rank = (logits > score).sum(dim=1).numpy()
        self.gains += list(np.where(rank < TOP, 1 / np.log2(rank + 2), 0.0))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare with the best epoch; the validation has run before."""
        ndcg = float(np.mean(self.gains))
        self.since += 1
        if ndcg > self.best:
            self.best, self.since = ndcg, 0
            self.seconds = time.monotonic() - self.began
            self.weights = copy.deepcopy(pl_module.state_dict())
        print(f"epoch {trainer.current_epoch}: NDCG@{TOP} {ndcg:.4f}", flush=True)
        trainer.should_stop = self.since >= self.patience


# eSASRec (arXiv 2508.06450) is SASRec with LiGR layers and a sampled softmax.
MODELS: dict[str, tuple[type, dict[str, Any]]] = {
    "SASRec": (SASRecModel, {"lightning_module_type": RealPositions}),
    "eSASRec": (
        SASRecModel,
        {
            "transformer_layers_type": LiGRLayers,
            "loss": "sampled_softmax",
            "n_negatives": 256,
        },
    ),
    "HSTU": (HSTUModel, {}),
}


def top_items(split: pd.DataFrame, settings: dict[str, Any]) -> tuple[pd.DataFrame, BestEpoch]:
    """Train; return user, item and rank from 1, and the best epoch."""
    settings = dict(settings)
    kind, own_settings = MODELS[settings.pop("model")]
    seed, patience = settings.pop("seed"), settings.pop("patience")
    epochs, features = settings.pop("epochs"), settings.pop("cluster_features", False)
    seed_everything(seed)
    frame = pd.DataFrame(
        {
            Columns.User: split["user"],
            Columns.Item: split["item"],
            Columns.Weight: 1.0,
            # A microsecond more for each row keeps the order of equal times.
            Columns.Datetime: pd.to_datetime(split["time"] + np.arange(len(split)), unit="us"),
        }
    )
    keys = [Columns.User, Columns.Item]
    held_out = pd.MultiIndex.from_frame(frame.loc[split["held_out"], keys])

    def mask(interactions: pd.DataFrame) -> np.ndarray:
        return pd.MultiIndex.from_frame(interactions[keys]).isin(held_out)

    clusters = split.drop_duplicates("item")
    dataset = Dataset.construct(
        frame,
        item_features_df=pd.DataFrame(
            {"id": clusters["item"], "feature": "cluster", "value": clusters["cluster"]}
        )
        if features
        else None,
        cat_item_features=["cluster"] if features else (),
    )

    def trainer() -> Trainer:
        return Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            logger=False,
            callbacks=[BestEpoch(patience)],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            num_sanity_val_steps=0,
        )

    model = kind(
        get_val_mask_func=mask,
        get_trainer_func=trainer,
        data_preparator_type=WholeHistories,
        **own_settings,
        **settings,
    )
    model.fit(dataset)
    best = next(kept for kept in model.fit_trainer.callbacks if isinstance(kept, BestEpoch))
    model.lightning_model.load_state_dict(best.weights)
    asked = split.drop_duplicates("user")
    context = pd.DataFrame(
        {
            Columns.User: asked["user"],
            Columns.Datetime: pd.to_datetime(asked["asked_at"], unit="us"),
        }
    )
    answers = model.recommend(
        users=frame[Columns.User].unique(),
        dataset=dataset,
        k=TOP,
        filter_viewed=True,
        on_unsupported_targets="ignore",
        context=context if model.require_recommend_context else None,
    )
    return answers, best


def main() -> int:
    """Train on a split and write the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("split", type=Path, help="Parquet to read")
    parser.add_argument("answers", type=Path, help="Parquet to write")
    parser.add_argument("--settings", type=json.loads, required=True, help="of SASRecModel, JSON")
    flags = parser.parse_args()
    warnings.filterwarnings("ignore")
    answers, best = top_items(pd.read_parquet(flags.split), flags.settings)
    columns = [Columns.User, Columns.Item, Columns.Rank]
    table = pa.Table.from_pandas(answers[columns], preserve_index=False)
    metadata = {"ndcg": str(best.best), "seconds_to_best": str(best.seconds)}
    pq.write_table(table.replace_schema_metadata(metadata), flags.answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
