"""Attribution: which pixels, positions and channels a score rests on.

- ``attribute``: the public function; ``attribution_result``: what it returns, and its figure
- ``methods``: the table of methods; ``captum_methods``: their functions
- ``target``: the score that is explained, as a torch module; baselines
- ``checks``: deletion and parameter randomization

Import from the files: this package loads none of them, so that the command line can read the table
of methods without waiting for torch.
"""
