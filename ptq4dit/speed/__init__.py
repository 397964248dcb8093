"""How fast a DiT runs and how much memory it takes: ours beside what else a user could pick, on this machine.

Another thing than `ptq4dit.benchmark`, which compares how good the pictures of quantization methods are.
"""
