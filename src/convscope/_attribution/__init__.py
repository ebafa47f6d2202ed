"""Attribution: which pixels, positions and channels a score rests on.

- ``attribute``: the public function; ``attribution_result``: what it returns, and its figure
- ``methods``: the table of methods; ``captum_methods``: their functions
- ``target``, ``question``: the score that is explained, as a torch module
- ``evidence``, ``channels``: how far a map can be trusted, and which channels matter

Import from the files: this package loads none of them, so that the command line can read the table
of methods without waiting for torch.
"""
