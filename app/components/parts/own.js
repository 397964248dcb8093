// A tab's own controls were moved: whoever shows what they made is told.
(names, values) => window.ptq4dit.say(Object.fromEntries(names.map((name, i) => [name, String(values[i])])))
