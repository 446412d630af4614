"""Renders that generate pixels by latent diffusion: the core that MAGIC-Talk, PortraitTalk and MCDM share."""
