//! The codes the population uses: LOINC, UCUM, ICD-9-CM, ATC and HL7 terminology; the Italian wording is ours.

pub const LOINC: &str = "http://loinc.org";
pub const UCUM: &str = "http://unitsofmeasure.org";
pub const ICD9: &str = "http://hl7.org/fhir/sid/icd-9-cm";
pub const ATC: &str = "http://www.whocc.no/atc";
pub const CODICE_FISCALE: &str = "urn:oid:2.16.840.1.113883.2.9.4.3.2";
pub const TEAM_CARD: &str = "urn:oid:2.16.840.1.113883.2.9.4.3.7";

/// A measured quantity: LOINC code, wording, UCUM unit, low and high of its values.
pub struct Measure {
    pub code: &'static str,
    pub text: &'static str,
    pub unit: &'static str,
    pub low: f64,
    pub high: f64,
}

const fn measure(code: &'static str, text: &'static str, unit: &'static str, low: f64, high: f64) -> Measure {
    Measure {
        code,
        text,
        unit,
        low,
        high,
    }
}

pub const DIASTOLIC: Measure = measure("8462-4", "Pressione arteriosa diastolica", "mm[Hg]", 60.0, 95.0);
pub const SYSTOLIC: Measure = measure("8480-6", "Pressione arteriosa sistolica", "mm[Hg]", 95.0, 165.0);

pub const VITALS: &[Measure] = &[
    measure(
        "72514-3",
        "Intensità del dolore riferita, scala numerica verbale da 0 a 10",
        "{score}",
        0.0,
        10.0,
    ),
    measure("8302-2", "Statura corporea", "cm", 60.0, 195.0),
    measure("29463-7", "Peso corporeo", "kg", 6.0, 110.0),
    measure("39156-5", "Indice di massa corporea", "kg/m2", 15.0, 38.0),
];

pub const TEMPERATURE: Measure = measure("8331-1", "Temperatura corporea orale", "Cel", 36.0, 40.2);
pub const FILTRATION: Measure = measure(
    "33914-3",
    "Velocità di filtrazione glomerulare stimata",
    "mL/min/{1.73_m2}",
    35.0,
    130.0,
);

/// A laboratory panel: LOINC code, wording, its measures.
pub struct Panel {
    pub code: &'static str,
    pub text: &'static str,
    pub measures: &'static [Measure],
}

pub const PANELS: &[Panel] = &[
    Panel {
        code: "58410-2",
        text: "Emocromo completo, conteggio automatico",
        measures: &[
            measure("6690-2", "Leucociti nel sangue, conteggio automatico", "10*3/uL", 3.5, 11.0),
            measure("789-8", "Eritrociti nel sangue, conteggio automatico", "10*6/uL", 3.8, 6.0),
            measure("718-7", "Emoglobina nel sangue, massa su volume", "g/dL", 10.5, 17.5),
            measure("4544-3", "Ematocrito, frazione di volume, conteggio automatico", "%", 34.0, 52.0),
            measure("787-2", "Volume corpuscolare medio, conteggio automatico", "fL", 78.0, 100.0),
            measure("785-6", "Emoglobina corpuscolare media, conteggio automatico", "pg", 26.0, 34.0),
            measure("786-4", "Concentrazione emoglobinica corpuscolare media", "g/dL", 31.0, 37.0),
            measure("21000-5", "Ampiezza di distribuzione eritrocitaria", "fL", 38.0, 48.0),
            measure("777-3", "Piastrine nel sangue, conteggio automatico", "10*3/uL", 140.0, 420.0),
            measure("32207-3", "Ampiezza di distribuzione piastrinica", "fL", 150.0, 510.0),
            measure("32623-1", "Volume piastrinico medio", "fL", 9.0, 13.0),
        ],
    },
    Panel {
        code: "57698-3",
        text: "Profilo lipidico",
        measures: &[
            measure("2093-3", "Colesterolo totale", "mg/dL", 130.0, 290.0),
            measure("2571-8", "Trigliceridi", "mg/dL", 60.0, 260.0),
            measure("18262-6", "Colesterolo LDL, misura diretta", "mg/dL", 50.0, 190.0),
            measure("2085-9", "Colesterolo HDL", "mg/dL", 30.0, 85.0),
        ],
    },
    Panel {
        code: "51990-0",
        text: "Profilo metabolico di base",
        measures: &[
            measure("2339-0", "Glucosio nel sangue", "mg/dL", 65.0, 210.0),
            measure("6299-2", "Azoto ureico nel sangue", "mg/dL", 7.0, 22.0),
            measure("38483-4", "Creatinina nel sangue", "mg/dL", 0.5, 3.2),
            measure("49765-1", "Calcio nel sangue", "mg/dL", 8.4, 10.4),
            measure("2947-0", "Sodio nel sangue", "mmol/L", 134.0, 146.0),
            measure("6298-4", "Potassio nel sangue", "mmol/L", 3.4, 5.4),
            measure("2069-3", "Cloruri nel sangue", "mmol/L", 99.0, 111.0),
            measure("4548-4", "Emoglobina glicata, frazione", "%", 4.6, 10.5),
        ],
    },
];

/// A code with its wording.
pub type Coded = (&'static str, &'static str);

/// LOINC answers on tobacco.
pub const SMOKING: &[Coded] = &[
    ("LA18978-9", "Non ha mai fumato"),
    ("LA15920-4", "Ex fumatore"),
    ("LA18976-3", "Fumatore quotidiano"),
];

/// ICD-9-CM diagnoses of short illnesses.
pub const ACUTE: &[Coded] = &[
    ("462", "Faringite acuta"),
    ("466.0", "Bronchite acuta"),
    ("461.9", "Sinusite acuta, non specificata"),
    ("382.9", "Otite media non specificata"),
    ("845.00", "Distorsione della caviglia, sede non specificata"),
    ("599.0", "Infezione delle vie urinarie, sede non specificata"),
    ("487.1", "Influenza con altre manifestazioni respiratorie"),
    ("558.9", "Gastroenterite e colite non infettive, altre e non specificate"),
    ("847.0", "Distorsione del collo"),
    ("813.81", "Frattura chiusa del radio"),
    ("850.0", "Concussione senza perdita di coscienza"),
    ("692.9", "Dermatite da contatto, causa non specificata"),
];

/// ICD-9-CM diagnoses that last.
pub const CHRONIC: &[Coded] = &[
    ("401.9", "Ipertensione essenziale non specificata"),
    ("250.00", "Diabete mellito di tipo 2, senza complicanze"),
    ("272.4", "Iperlipidemia, altra e non specificata"),
    ("278.00", "Obesità non specificata"),
    ("493.90", "Asma non specificata"),
    ("715.90", "Osteoartrosi, sede non specificata"),
    ("285.9", "Anemia non specificata"),
    ("790.29", "Alterata tolleranza al glucosio"),
    ("585.9", "Malattia renale cronica non specificata"),
    ("477.9", "Rinite allergica, causa non specificata"),
];

/// ICD-9-CM procedures, as the Italian outpatient catalogue numbers them.
pub const PROCEDURES: &[Coded] = &[
    ("89.52", "Elettrocardiogramma"),
    ("87.44.1", "Radiografia del torace di routine"),
    ("45.23", "Colonscopia con endoscopio flessibile"),
    ("88.71.4", "Ecografia del capo e del collo"),
    ("93.11.1", "Rieducazione motoria individuale"),
    ("89.37.1", "Spirometria semplice"),
    ("86.59.1", "Sutura estetica di ferita del volto"),
    ("93.54", "Applicazione di apparecchio gessato"),
    ("91.48.5", "Prelievo citologico"),
    ("89.01", "Anamnesi e valutazione, con revisione della terapia farmacologica"),
];

/// ATC codes of medicines.
pub const MEDICINES: &[Coded] = &[
    ("M01AE01", "Ibuprofene 400 mg, compresse rivestite"),
    ("N02BE01", "Paracetamolo 500 mg, compresse"),
    ("J01CR02", "Amoxicillina e acido clavulanico 875 mg/125 mg, compresse"),
    ("C09AA05", "Ramipril 5 mg, compresse"),
    ("A10BA02", "Metformina 850 mg, compresse rivestite"),
    ("C10AA05", "Atorvastatina 20 mg, compresse"),
    ("A02BC01", "Omeprazolo 20 mg, capsule gastroresistenti"),
    ("R03AC02", "Salbutamolo 100 microgrammi, sospensione pressurizzata per inalazione"),
    ("C07AB07", "Bisoprololo 2,5 mg, compresse"),
    ("B01AC06", "Acido acetilsalicilico 100 mg, compresse gastroresistenti"),
];

/// ATC codes of vaccines.
pub const VACCINES: &[Coded] = &[
    (
        "J07BB02",
        "Vaccino influenzale inattivato, virus frammentato o antigene di superficie",
    ),
    ("J07AM51", "Vaccino antitetanico, associazioni con anatossina difterica"),
    ("J07AL02", "Vaccino pneumococcico coniugato polisaccaridico"),
    ("J07BD52", "Vaccino contro morbillo, parotite e rosolia, vivo attenuato"),
    ("J07BM03", "Vaccino contro il papillomavirus umano, nove tipi"),
    ("J07BC01", "Vaccino contro l'epatite B, antigene purificato"),
];

/// ATC or plain wording of what people are allergic to, with the R4 category.
pub const ALLERGENS: &[(&str, &str, &str)] = &[
    ("V01AA02", "Allergia ai pollini di graminacee", "environment"),
    ("V01AA03", "Allergia agli acari della polvere", "environment"),
    ("V01AA04", "Allergia alle muffe", "environment"),
    ("V01AA05", "Allergia ai pollini di alberi", "environment"),
    ("V01AA08", "Allergia ad alimenti: arachidi e frutta a guscio", "food"),
    ("V01AA11", "Allergia al pelo di animali", "environment"),
    ("J01CA04", "Allergia all'amoxicillina", "medication"),
    ("V01AA07", "Allergia al veleno di insetti", "biologic"),
];

/// Activities of care plans.
pub const ACTIVITIES: &[&str] = &[
    "Camminata quotidiana di trenta minuti",
    "Dieta povera di sodio e di zuccheri semplici",
    "Esercizi di mobilizzazione e di rinforzo",
    "Autocontrollo della pressione arteriosa a domicilio",
    "Colloquio sulla sospensione del fumo",
    "Riposo e protezione dell'arto",
];

/// Kinds of visit: class of encounter (v3-ActCode), code of the outpatient catalogue, wording.
pub const WELLNESS: Coded = ("89.7", "Visita generale periodica di controllo");
pub const SICK: &[Coded] = &[
    ("89.7A.1", "Prima visita per un sintomo nuovo"),
    ("89.01.1", "Visita di controllo per un problema noto"),
    ("89.03", "Anamnesi e valutazione definite complessive"),
];
pub const EMERGENCY: Coded = ("89.13.9", "Accesso al pronto soccorso");
