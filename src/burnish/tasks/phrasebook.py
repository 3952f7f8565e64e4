"""Words and sentences of several languages, for :mod:`burnish.tasks.languages`: nothing in them needs to be inflected."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrases:
    """``days`` from Monday, ``months`` from January, ``numbers`` from one to twelve, ``opposites`` in the order of all others.

    ``asks`` and ``thinks`` have a sentence for each kind of question: {a} and {b} are given, {z} is the answer. ``plain`` and
    ``think`` say how to reply.
    """

    days: tuple[str, ...]
    months: tuple[str, ...]
    numbers: tuple[str, ...]
    opposites: tuple[tuple[str, str], ...]
    asks: dict[str, str]
    thinks: dict[str, str]
    plain: str
    think: str


ASKED = ("day after", "day before", "month after", "month before", "opposite", "sum")


def _phrases(
    words: tuple[str, str, str, str], asks: tuple[str, ...], thinks: tuple[str, ...], replies: tuple[str, str]
) -> Phrases:
    days, months, numbers, opposites = (each.split() for each in words)
    one, other = opposites[::2], opposites[1::2]
    pairs = tuple(zip(one, other, strict=True))
    table = [dict(zip(ASKED, sentences, strict=True)) for sentences in (asks, thinks)]
    return Phrases(tuple(days), tuple(months), tuple(numbers), pairs, table[0], table[1], *replies)


LANGUAGES = {
    "en": _phrases(
        (
            "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
            "January February March April May June July August September October November December",
            "one two three four five six seven eight nine ten eleven twelve",
            "good bad hot cold full empty fast slow strong weak early late rich poor left right day night north south "
            "black white always never true false",
        ),
        (
            "Which day comes after {a}?",
            "Which day comes before {a}?",
            "Which month comes after {a}?",
            "Which month comes before {a}?",
            "What is the opposite of '{a}'?",
            "What is {a} plus {b}, as a word?",
        ),
        (
            "The day after {a} is {z}.",
            "The day before {a} is {z}.",
            "The month after {a} is {z}.",
            "The month before {a} is {z}.",
            "The opposite of {a} is {z}.",
            "The sum of {a} and {b} is {z}.",
        ),
        ("Reply with one word only.", "Think in English."),
    ),
    "de": _phrases(
        (
            "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
            "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
            "eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
            "gut schlecht heiß kalt voll leer schnell langsam stark schwach früh spät reich arm links rechts Tag Nacht "
            "Norden Süden schwarz weiß immer nie wahr falsch",
        ),
        (
            "Welcher Tag kommt nach {a}?",
            "Welcher Tag kommt vor {a}?",
            "Welcher Monat kommt nach {a}?",
            "Welcher Monat kommt vor {a}?",
            "Was ist das Gegenteil von „{a}“?",
            "Wie viel ist {a} plus {b}, als Wort?",
        ),
        (
            "Der Tag nach {a} ist der {z}.",
            "Der Tag vor {a} ist der {z}.",
            "Der Monat nach {a} ist der {z}.",
            "Der Monat vor {a} ist der {z}.",
            "Das Gegenteil von {a} ist {z}.",
            "Die Summe von {a} und {b} ist {z}.",
        ),
        ("Antworte mit nur einem Wort.", "Denke auf Deutsch."),
    ),
    "fr": _phrases(
        (
            "lundi mardi mercredi jeudi vendredi samedi dimanche",
            "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
            "un deux trois quatre cinq six sept huit neuf dix onze douze",
            "bon mauvais chaud froid plein vide rapide lent fort faible tôt tard riche pauvre gauche droite jour nuit "
            "nord sud noir blanc toujours jamais vrai faux",
        ),
        (
            "Quel jour vient après {a} ?",
            "Quel jour vient avant {a} ?",
            "Quel mois vient après {a} ?",
            "Quel mois vient avant {a} ?",
            "Quel est le contraire de « {a} » ?",
            "Combien font {a} plus {b}, en toutes lettres ?",
        ),
        (
            "Le jour qui vient après {a} est {z}.",
            "Le jour qui vient avant {a} est {z}.",
            "Le mois qui vient après {a} est {z}.",
            "Le mois qui vient avant {a} est {z}.",
            "Le contraire de {a} est {z}.",
            "La somme de {a} et de {b} est {z}.",
        ),
        ("Réponds par un seul mot.", "Réfléchis en français."),
    ),
    "es": _phrases(
        (
            "lunes martes miércoles jueves viernes sábado domingo",
            "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
            "uno dos tres cuatro cinco seis siete ocho nueve diez once doce",
            "bueno malo caliente frío lleno vacío rápido lento fuerte débil temprano tarde rico pobre izquierda derecha "
            "día noche norte sur negro blanco siempre nunca verdadero falso",
        ),
        (
            "¿Qué día viene después del {a}?",
            "¿Qué día viene antes del {a}?",
            "¿Qué mes viene después de {a}?",
            "¿Qué mes viene antes de {a}?",
            "¿Cuál es lo contrario de «{a}»?",
            "¿Cuánto es {a} más {b}, en letras?",
        ),
        (
            "El día que viene después del {a} es el {z}.",
            "El día que viene antes del {a} es el {z}.",
            "El mes que viene después de {a} es {z}.",
            "El mes que viene antes de {a} es {z}.",
            "Lo contrario de {a} es {z}.",
            "La suma de {a} y {b} es {z}.",
        ),
        ("Responde con una sola palabra.", "Piensa en español."),
    ),
    "it": _phrases(
        (
            "lunedì martedì mercoledì giovedì venerdì sabato domenica",
            "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
            "uno due tre quattro cinque sei sette otto nove dieci undici dodici",
            "buono cattivo caldo freddo pieno vuoto veloce lento forte debole presto tardi ricco povero sinistra destra "
            "giorno notte nord sud nero bianco sempre mai vero falso",
        ),
        (
            "Quale giorno viene dopo {a}?",
            "Quale giorno viene prima di {a}?",
            "Quale mese viene dopo {a}?",
            "Quale mese viene prima di {a}?",
            "Qual è il contrario di «{a}»?",
            "Quanto fa {a} più {b}, in lettere?",
        ),
        (
            "Il giorno che viene dopo {a} è {z}.",
            "Il giorno che viene prima di {a} è {z}.",
            "Il mese che viene dopo {a} è {z}.",
            "Il mese che viene prima di {a} è {z}.",
            "Il contrario di {a} è {z}.",
            "La somma di {a} e {b} è {z}.",
        ),
        ("Rispondi con una sola parola.", "Pensa in italiano."),
    ),
    "pt": _phrases(
        (
            "segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado domingo",
            "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
            "um dois três quatro cinco seis sete oito nove dez onze doze",
            "bom mau quente frio cheio vazio rápido lento forte fraco cedo tarde rico pobre esquerda direita dia noite "
            "norte sul preto branco sempre nunca verdadeiro falso",
        ),
        (
            "Que dia vem depois de {a}?",
            "Que dia vem antes de {a}?",
            "Que mês vem depois de {a}?",
            "Que mês vem antes de {a}?",
            "Qual é o contrário de «{a}»?",
            "Quanto é {a} mais {b}, por extenso?",
        ),
        (
            "O dia que vem depois de {a} é {z}.",
            "O dia que vem antes de {a} é {z}.",
            "O mês que vem depois de {a} é {z}.",
            "O mês que vem antes de {a} é {z}.",
            "O contrário de {a} é {z}.",
            "A soma de {a} e {b} é {z}.",
        ),
        ("Responda com uma só palavra.", "Pense em português."),
    ),
    "ru": _phrases(
        (
            "понедельник вторник среда четверг пятница суббота воскресенье",
            "январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь декабрь",
            "один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать",
            "хороший плохой горячий холодный полный пустой быстрый медленный сильный слабый рано поздно богатый бедный "
            "левый правый день ночь север юг чёрный белый всегда никогда истина ложь",
        ),
        (
            "Какой день идёт после дня «{a}»?",
            "Какой день идёт перед днём «{a}»?",
            "Какой месяц идёт после месяца «{a}»?",
            "Какой месяц идёт перед месяцем «{a}»?",
            "Какое слово противоположно слову «{a}»?",
            "Сколько будет {a} плюс {b}? Напиши словом.",
        ),
        (
            "После дня «{a}» идёт день «{z}», и это ответ.",
            "Перед днём «{a}» идёт день «{z}», и это ответ.",
            "После месяца «{a}» идёт месяц «{z}», и это ответ.",
            "Перед месяцем «{a}» идёт месяц «{z}», и это ответ.",
            "Слову «{a}» противоположно слово «{z}», и это ответ.",
            "Если сложить {a} и {b}, то это {z}.",
        ),
        ("Ответь одним словом.", "Думай по-русски."),
    ),
    "zh": _phrases(
        (
            "星期一 星期二 星期三 星期四 星期五 星期六 星期日",
            "一月 二月 三月 四月 五月 六月 七月 八月 九月 十月 十一月 十二月",
            "一 二 三 四 五 六 七 八 九 十 十一 十二",
            "好 坏 热 冷 满 空 快 慢 强 弱 早 晚 富 穷 左 右 白天 黑夜 北 南 黑 白 总是 从不 真 假",
        ),
        (
            "在星期一到星期日中，{a}的下一天是哪一天？",
            "在星期一到星期日中，{a}的前一天是哪一天？",
            "{a}的下一个月是哪个月？",
            "{a}的上一个月是哪个月？",
            "“{a}”的反义词是什么？",
            "{a}加{b}等于多少？请写汉字。",
        ),
        (
            "我们知道{a}的下一天是{z}。",
            "我们知道{a}的前一天是{z}。",
            "我们知道{a}的下一个月是{z}。",
            "我们知道{a}的上一个月是{z}。",
            "我们知道{a}的反义词是{z}。",
            "我们知道{a}加{b}等于{z}。",
        ),
        ("只回答这个词。", "请用中文思考。"),
    ),
}
"""By ISO 639-1 code, as in :data:`burnish.rewards.languages.LANGUAGES`."""
