(
    WITH asked AS (
        SELECT task, coalesce((policy -> 'evaluation' ->> 'quorum')::INTEGER, 1) AS quorum,
            (policy -> 'evaluation' ->> 'disagreement_max')::DOUBLE AS apart,
            coalesce(policy -> 'evaluation' ->> 'metric', nullif(policy -> 'stop' ->> 'target_metric', ''), 'accuracy')
                AS judged
        FROM facts.task_created
        WHERE coalesce(policy -> 'evaluation' ->> 'quorum', policy -> 'evaluation' ->> 'disagreement_max',
            policy -> 'evaluation' ->> 'drop_max') IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY task ORDER BY at_offset) = 1
    ), heard AS (
        SELECT at_partition, input_offset AS at_offset FROM facts.noticed_fact
        WHERE at_topic = 'rounds' AND event = 'VersionEvaluated'
    ), words AS (
        FROM (FROM facts.version_evaluated SEMI JOIN heard USING (at_partition, at_offset)) WHERE cohort = ''
        -- Of cohorts the aggregator takes no note: what evaluators say of them counts as it stands, but for measurements.
        UNION ALL FROM facts.version_evaluated WHERE BY_COHORT AND cohort <> '' AND source IS NULL
            AND evaluator IS NOT NULL
    ), voices AS (
        SELECT task, version, cohort, CASE WHEN source IS NULL THEN coalesce(evaluator, '') ELSE '+' END AS voice,
            arg_min(metrics, at_offset) AS metrics, arg_min(samples, at_offset) AS samples,
            any_value(quorum) AS quorum, any_value(apart) AS apart, any_value(judged) AS judged
        FROM words JOIN asked USING (task)
        GROUP BY task, version, cohort, voice
    ), numbers AS (
        SELECT * EXCLUDE (metrics), (json_extract_string(metrics, '$."' || name || '"'))::DOUBLE AS value
        FROM (SELECT *, unnest(json_keys(metrics)) AS name FROM voices)
    ), near AS (
        SELECT task, version, cohort, max(many) AS agreeing, max(above) AS spread FROM (
            SELECT task, version, cohort, one.voice, max(other.value) - min(one.value) AS above,
                count(*) FILTER (other.value >= one.value AND other.value - one.value <= one.apart) AS many
            FROM numbers AS one JOIN numbers AS other USING (task, version, cohort)
            WHERE one.name = one.judged AND other.name = other.judged
            GROUP BY task, version, cohort, one.voice
        ) GROUP BY task, version, cohort
    ), settled AS (
        SELECT task, version, cohort, any_value(quorum) AS quorum, count(*) AS voices,
            any_value(judged) AS metric, any_value(spread) AS spread, any_value(apart) AS disagreement_max,
            sum(samples)::BIGINT AS samples,
            CASE WHEN count(*) < any_value(quorum) THEN 'waiting'
                WHEN any_value(apart) IS NULL
                    OR (any_value(agreeing) >= any_value(quorum) AND 2 * any_value(agreeing) > count(*)) THEN 'final'
                ELSE 'contested' END AS status
        FROM voices LEFT JOIN near USING (task, version, cohort) GROUP BY task, version, cohort
    ), medians AS (
        SELECT task, version, cohort, json_group_object(name, value) AS metrics FROM (
            SELECT task, version, cohort, name, median(value) AS value FROM numbers
            GROUP BY task, version, cohort, name HAVING count(*) >= any_value(quorum)
        ) GROUP BY task, version, cohort
    )
    SELECT task, version, cohort, status, voices, quorum, metric, spread, disagreement_max,
        CASE WHEN status = 'final' THEN metrics END AS metrics, samples
    FROM settled LEFT JOIN medians USING (task, version, cohort)
    UNION ALL
    SELECT task, version, cohort, 'final' AS status, count(DISTINCT coalesce(evaluator, '')) AS voices, 1 AS quorum,
        NULL AS metric, NULL AS spread, NULL AS disagreement_max,
        arg_max(metrics, at_offset) AS metrics, arg_max(samples, at_offset) AS samples
    FROM facts.version_evaluated
    WHERE (BY_COHORT OR cohort = '') AND source IS NULL AND task NOT IN (SELECT task FROM asked)
    GROUP BY task, version, cohort
)
