"""The Gradio app: shows what the engine `ptq4dit` computes and computes nothing itself.

`state` what a person has chosen; `services` the only importer of the engine; `figures` arrays to figures;
`components` custom parts; `tabs` one file a tab; `content` the words.
"""
