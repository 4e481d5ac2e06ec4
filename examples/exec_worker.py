"""A command of `serve --exec-workers`: answers with the words of a text, one by one."""
import json
import sys

for line in sys.stdin:
    call = json.loads(line)
    if "cancel" in call:
        continue  # Of a call that is over.
    try:
        for word in call["request"]["text"].split():
            print(json.dumps({"item": word}))
        print(json.dumps({"end": True}))
    except (KeyError, TypeError) as error:
        print(json.dumps({"error": {"message": f"no text: {error!r}", "class": "InvalidRequest"}}))
