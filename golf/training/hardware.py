def cpu_preset():
    return {"compute_dtype": "bfloat16", "compile": True, "threads": 2}


def apply_cpu_preset(preset):
    import torch

    torch.set_num_threads(preset["threads"])
