"""Training: LoRA and QLoRA on TRL's SFTTrainer, with an audit of what is learnt from and a record of the curve."""
