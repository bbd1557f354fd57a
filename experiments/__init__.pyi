from experiments.library import LanguageModel as LanguageModel
from experiments.library import OwnLosses as OwnLosses
from experiments.library import run as run
from experiments.library import write_report as write_report
