"""How to cite the method; `CITATION.cff` says the same, which an installed package does not have."""

from __future__ import annotations

ARXIV = "2604.18003"
BIBTEX = """@article{zhang2026selfemo,
  title   = {SELF-EMO: Emotional Self-Evolution from Recognition to Consistent Expression},
  author  = {Zhang, Shaowei and Qian, Faqiang and Chen, Yan and Wang, Ziliang and An, Kang and Dai, Yong and
             Gao, Mengya and Wu, Yichao},
  journal = {arXiv preprint arXiv:2604.18003},
  year    = {2026},
  url     = {https://arxiv.org/abs/2604.18003}
}"""
