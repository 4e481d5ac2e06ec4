"""Makes a model that Dynamo's frontend can load, without weights. Argument: the directory to be made.

Its tokenizer is a byte-level BPE without merges, as `tokenizers` makes it: a token is a byte, and an answer that repeats the
prompt's tokens repeats its text.
"""

import json
import os
import sys

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

BEGIN, END = "<|begin|>", "<|end|>"
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"


def main(directory):
    os.makedirs(directory)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(BEGIN), AddedToken(END)])
    tokenizer.save(os.path.join(directory, "tokenizer.json"))
    files = {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "bos_token_id": 256,
            "eos_token_id": 257,
            "vocab_size": 258,
            "max_position_embeddings": 8192,
        },
        "generation_config.json": {"bos_token_id": 256, "eos_token_id": [257]},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN,
            "eos_token": END,
            "model_max_length": 8192,
            "chat_template": TEMPLATE,
        },
    }
    for name, content in files.items():
        with open(os.path.join(directory, name), "w") as file:
            json.dump(content, file)


main(sys.argv[1])
