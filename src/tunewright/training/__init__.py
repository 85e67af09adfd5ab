"""Training: LoRA and QLoRA on TRL's SFTTrainer, an audit of the tokens that are learnt, and a diagnosis of the
curve."""
