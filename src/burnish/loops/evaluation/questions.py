"""Short general questions, each with its answer and two wrong ones: what a model may forget while it learns something else.

They are in the project's own words and no test of how much a model knows: they are to be easy, so that what is lost shows.
"""

from __future__ import annotations

from burnish.types import Answer, Comparison

QUESTIONS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "facts": (
        ("What is the capital of France?", "Paris", "Madrid", "Lyon"),
        ("Which planet do we live on?", "Earth", "Mars", "Venus"),
        ("What do bees make?", "Honey", "Milk", "Wool"),
        ("How many days are in a week?", "Seven", "Nine", "Five"),
        ("Which metal is attracted by a magnet?", "Iron", "Gold", "Lead"),
        ("What is frozen water called?", "Ice", "Steam", "Sand"),
        ("Which ocean lies between Europe and America?", "The Atlantic", "The Pacific", "The Arctic"),
        ("What do plants take from the sun?", "Light", "Salt", "Sound"),
        ("Which animal gives us wool?", "The sheep", "The horse", "The duck"),
        ("What is the largest planet of our solar system?", "Jupiter", "Mercury", "Neptune"),
        ("Who wrote Hamlet?", "Shakespeare", "Goethe", "Tolstoy"),
        ("What gas do we need to breathe?", "Oxygen", "Helium", "Neon"),
    ),
    "arithmetic": (
        ("What is 2 + 3?", "5", "6", "4"),
        ("What is 10 - 4?", "6", "5", "7"),
        ("What is 3 * 4?", "12", "14", "7"),
        ("What is 20 / 5?", "4", "5", "3"),
        ("What is 7 + 8?", "15", "16", "14"),
        ("What is half of 18?", "9", "8", "6"),
        ("What is 100 - 1?", "99", "98", "90"),
        ("What is 6 * 6?", "36", "32", "30"),
        ("What is twice 11?", "22", "21", "13"),
        ("What is 50 + 50?", "100", "150", "90"),
        ("Which is larger, 19 or 91?", "91", "19", "11"),
        ("How many sides has a triangle?", "3", "4", "5"),
    ),
    "spelling": (
        ("Spell the word for the opposite of day.", "night", "nite", "nihgt"),
        ("Spell the number after seven.", "eight", "eigth", "ate"),
        ("Spell the day after Tuesday.", "Wednesday", "Wensday", "Wednsday"),
        ("Spell the month after January.", "February", "Febuary", "Feburary"),
        ("Spell the word for a person next door.", "neighbour", "nieghbour", "naybour"),
        ("Spell the word that means to have faith: be...", "believe", "beleive", "belive"),
        ("Spell the plural of knife.", "knives", "knifes", "nives"),
        ("Spell the plural of child.", "children", "childs", "childern"),
        ("Spell the word for a place with many books.", "library", "libary", "liberry"),
        ("What is the first letter of apple?", "a", "e", "p"),
        ("What is the last letter of bread?", "d", "b", "a"),
        ("Write cat backwards.", "tac", "atc", "cta"),
    ),
    "translation": (
        ("Translate into French: good morning", "bonjour", "bonsoir", "merci"),
        ("Translate into German: thank you", "danke", "bitte", "hallo"),
        ("Translate into Spanish: water", "agua", "fuego", "tierra"),
        ("Translate into Italian: goodbye", "arrivederci", "grazie", "prego"),
        ("Translate into French: the house", "la maison", "le jardin", "la porte"),
        ("Translate into German: the dog", "der Hund", "die Katze", "das Pferd"),
        ("Translate into Spanish: red", "rojo", "azul", "verde"),
        ("Translate into English: chat (French)", "cat", "dog", "bird"),
        ("Translate into English: Brot (German)", "bread", "butter", "brown"),
        ("Translate into English: amigo (Spanish)", "friend", "enemy", "love"),
        ("Translate into French: one, two, three", "un, deux, trois", "un, trois, deux", "uno, dos, tres"),
        ("Translate into German: yes", "ja", "nein", "da"),
    ),
    "instructions": (
        ("Answer with one word: yes.", "yes", "no", "Yes, of course I can do that."),
        ("Write the word hello in capital letters.", "HELLO", "hello", "Hello"),
        ("List the numbers from 1 to 3, separated by commas.", "1, 2, 3", "3, 2, 1", "1 2 3 4"),
        ("Reply with JSON that says that the name is Ann.", '{"name": "Ann"}', "name = Ann", '{"Ann"}'),
        ("Repeat after me: the sky is blue", "the sky is blue", "the sky is green", "blue is the sky"),
        ("Put the words in order of the alphabet: pear, apple", "apple, pear", "pear, apple", "apple, apple"),
        ("Say nothing but OK.", "OK", "OK, I will say nothing but that.", "Sure!"),
        ("Write three exclamation marks.", "!!!", "!!", "???"),
        ("Begin your answer with the word First.", "First, we look at it.", "We look at it first.", "Then we look."),
        ("Put the word tea in quotation marks.", '"tea"', "tea", "(tea)"),
        ("Complete the list: Monday, Tuesday,", "Wednesday", "Sunday", "March"),
        ("Which of these is a colour: table, green, run?", "green", "table", "run"),
    ),
    "sense": (
        ("What do you use to cut paper?", "scissors", "a spoon", "a pillow"),
        ("Is fire hot or cold?", "hot", "cold", "wet"),
        ("What do you wear on your feet?", "shoes", "gloves", "a hat"),
        ("Can a fish walk on the moon?", "no", "yes", "sometimes"),
        ("What comes after night?", "day", "dusk", "winter"),
        ("If it rains, what keeps you dry?", "an umbrella", "a candle", "a fork"),
        ("Which is heavier, a feather or a stone?", "a stone", "a feather", "air"),
        ("Where do birds lay their eggs?", "in a nest", "in a car", "in a cup"),
        ("What do you do when you are tired?", "sleep", "sing", "paint"),
        ("Which is slower, a snail or a horse?", "a snail", "a horse", "a train"),
        ("What do you need to open a locked door?", "a key", "a sock", "a leaf"),
        ("You drop a glass on a stone floor. What happens?", "it breaks", "it flies", "it melts"),
    ),
}


def questions() -> list[Comparison]:
    """All of them, the right answer with rank 0; ``meta["kind"]`` says what is asked for."""
    return [
        Comparison(
            ({"role": "user", "content": question},),
            tuple(
                Answer(({"role": "assistant", "content": text},), rank=int(place > 0))
                for place, text in enumerate(answers)
            ),
            {"kind": kind},
        )
        for kind, rows in QUESTIONS.items()
        for question, *answers in rows
    ]
