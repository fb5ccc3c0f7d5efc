"""Variables of the published scripts: what each is in golf, one line each, and those that are nothing here.

Source: the hyperparameters of the record scripts (March and April 2026) and the commands of their pages.
Invariant: a name stands in exactly one place, here or in a rule of translate_rules.py.
"""

from __future__ import annotations

# Variable -> (key, type): one value, the same meaning.
DIRECT: dict[str, tuple[str, str]] = {
    "VOCAB_SIZE": ("tokenizer.vocab_size", "int"),
    "NUM_LAYERS": ("model.num_layers", "int"),
    "MODEL_DIM": ("model.width", "int"),
    "NUM_HEADS": ("model.num_heads", "int"),
    "NUM_KV_HEADS": ("model.num_kv_heads", "int"),
    "MLP_MULT": ("model.mlp_mult", "float"),
    "TIE_EMBEDDINGS": ("model.tie_embeddings", "bool"),
    "LOGIT_SOFTCAP": ("model.softcap.cap", "float"),
    "QK_GAIN_INIT": ("model.attention.qk_gain", "float"),
    "ROPE_BASE": ("model.rope.base", "float"),
    "LN_SCALE": ("model.residual.norm_scale", "bool"),
    "TIED_EMBED_INIT_STD": ("model.initialise.embedding_std", "float"),
    "TIED_EMBED_LR": ("optim.embedding_lr", "float"),
    "HEAD_LR": ("optim.head_lr", "float"),
    "MATRIX_LR": ("optim.matrix_lr", "float"),
    "SCALAR_LR": ("optim.scalar_lr", "float"),
    "ADAM_EPS": ("optim.eps", "float"),
    "MUON_WD": ("optim.matrix_weight_decay", "float"),
    "MUON_WEIGHT_DECAY": ("optim.matrix_weight_decay", "float"),
    "EMBED_WD": ("optim.embedding_weight_decay", "float"),
    "MUON_BACKEND_STEPS": ("optim.newton_schulz_steps", "int"),
    "GRAD_CLIP_NORM": ("optim.clip_norm", "float"),
    "ITERATIONS": ("budget.max_steps", "int"),
    "MAX_WALLCLOCK_SECONDS": ("budget.max_seconds", "float"),
    "WARMUP_STEPS": ("callbacks.warmup.steps", "int"),
    "SEED": ("seed", "int"),
    "RUN_ID": ("name", "text"),
    "DATA_PATH": ("data.folder", "text"),
    "TOKENIZER_PATH": ("tokenizer.path", "text"),
    "TRAIN_SEQ_LEN": ("data.seq_len", "int"),
    "SEQ_LEN": ("data.seq_len", "int"),
    "TRAIN_BATCH_TOKENS": ("data.tokens_per_step", "int"),
    "EVAL_SEQ_LEN": ("eval.seq_len", "int"),
    "VAL_MAX_TOKENS": ("eval.max_tokens", "int"),
    "VAL_LOSS_EVERY": ("trainer.val_check_steps", "int"),
    "TRAIN_LOG_EVERY": ("trainer.log_every_steps", "int"),
}

# Remarks on direct translations.
REMARKS: dict[str, str] = {
    "WARMUP_STEPS": "steps that are run and undone before the clock starts, not a learning-rate warm-up",
    "GRAD_CLIP_NORM": "golf clips the global norm; scripts with banks clipped on each rank before averaging",
    "RUN_ID": "the folder under runs/",
    "VAL_LOSS_EVERY": "in golf it changes neither the data order nor the clock",
}

# Variable -> the one value at which it does nothing; any other asks for something that golf does not have.
OFF: dict[str, tuple[str, str]] = {
    "DTG_ENABLED": ("0", "the token gate between blocks was on in no record"),
    "TRIGRAM_ENABLED": ("0", "the trigram hash was on in no record"),
    "LAWA_ENABLED": ("0", "averaging the latest checkpoints was on in no record; average=swa is near"),
    "CANON_AC_LAYERS": ("", "the four-tap residual convolution was on in no record"),
    "GATED_ATTENTION": ("0", "the biased head gate of March was on in no record; model/gate=dense is near"),
    "SLOT_ENABLED": ("0", "SLOT tunes on the targets it then scores: golf refuses such scores"),
    "ETLB_ENABLED": ("0", "the logit bias tuned in evaluation was on in no record"),
    "POST_GPTQ_EVAL_ONLY": ("0", "type python evaluate.py run=<folder>"),
    "VAL_DOC_FRACTION": ("1", "golf scores the whole split; eval.max_tokens cuts it, and says so"),
    "EVAL_ONLY": ("0", "type python evaluate.py run=<folder>"),
    "EXPORT_ONLY": ("0", "type python export.py run=<folder>"),
    "PARALLEL_START_LAYER_IS_PHYSICAL": ("1", "golf counts blocks, not visits"),
    "ATTN_OUT_GATE_SRC": ("proj", "golf gates by the block's normalised input"),
}

# No effect on the result in the published scripts either.
INERT: dict[str, str] = {
    "MUON_BETA2": "read by no optimizer",
    "BANK_SPLIT": "splits matrices for two rates that make no difference",
    "MATRIX_LR_EARLY": "scales gradients that Muon normalises afterwards",
    "MATRIX_LR_LATE": "scales gradients that Muon normalises afterwards",
    "LAWA_K": "belongs to LAWA, which was off",
    "LAWA_FREQ": "belongs to LAWA, which was off",
    "SLOT_LR": "belongs to SLOT",
    "SLOT_STEPS": "belongs to SLOT",
    "ETLB_LR": "belongs to ETLB",
    "ETLB_STEPS": "belongs to ETLB",
    "ETLB_CLIP": "belongs to ETLB",
    "LQER_FACTOR_BITS": "never reached",
}

# Settings of golf's own making: paths of files, sizes of scoring batches, switches of kernels.
OWN: dict[str, str] = {
    "MODEL_PATH": "golf writes into the run folder",
    "QUANTIZED_MODEL_PATH": "golf writes into the run folder",
    "ARTIFACT_DIR": "golf writes into the run folder",
    "VAL_BATCH_SIZE": "golf sizes its scoring batches by the device (eval.batch_tokens)",
    "VAL_BATCH_TOKENS": "golf sizes its scoring batches by the device (eval.batch_tokens)",
    "EVAL_BATCH_SEQS": "golf sizes its scoring batches by the device (eval.batch_tokens)",
    "FUSED_CE_ENABLED": "a kernel of the same formula",
}

_QUANT = "quantisation: conf/quant and export.py decide it"
LATER: dict[str, str] = dict.fromkeys(
    (
        *("MATRIX_BITS", "EMBED_BITS", "MATRIX_CLIP_SIGMAS", "EMBED_CLIP_SIGMAS", "MLP_CLIP_SIGMAS"),
        *("ATTN_CLIP_SIGMAS", "QUANT_CLIP_RANGE", "MIXED_QUANT", "N_INT6_LAYERS", "USE_GPTQ", "TARGET_MB"),
        *("GPTQ_CALIBRATION_BATCHES", "GPTQ_CALIB_BATCHES", "GPTQ_CALIB_SAMPLES", "GPTQ_BATCH_SIZE"),
        *("GPTQ_BLOCK_SIZE", "GPTQ_TEMPERATURE", "GPTQ_AR_SELFGEN", "GATED_ATTN_QUANT_GATE", "HESSIAN_CLIP_LAMBDA"),
        *("LQER_ENABLED", "LQER_RANK", "LQER_TOP_K", "LQER_ASYM_ENABLED", "LQER_ASYM_GROUP", "INT4_LAYERS"),
        *("INT4_STEP",),
    ),
    _QUANT,
)
LATER |= {
    "CASEOPS_ENABLED": "the tokenizer in data.folder decides it: choose shards and a model that were made with it"
}

# Variables of the machine, its libraries and the launcher.
SYSTEM_PREFIXES = (
    *("NCCL_", "CUDA_", "TORCH", "PYTORCH_", "HF_", "OMP_", "MKL_", "GLOO_", "TRITON_", "WANDB_", "XDG_", "PYTHON"),
    *("SLURM_", "UCX_", "FI_", "LD_", "LC_", "MATCHED_FINEWEB_", "TOKENIZERS_", "GOLF_", "UV_", "PIP_"),
)
SYSTEM = frozenset(
    ("PATH", "HOME", "LANG", "TERM", "TMPDIR", "MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "NODE_RANK", "TZ")
)
