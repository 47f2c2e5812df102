"""Fine-tuning: a pretrained model and a head, trained together on audio or on words."""
